//! What a mail server was given, and how a person reads it.

use base64::{Engine as _, prelude::BASE64_STANDARD};

/// A message as it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The envelope's sender.
    pub from: String,
    /// The envelope's recipients.
    pub to: Vec<String>,
    /// Headers and body, lines ending with CR LF.
    pub data: Vec<u8>,
}

impl Message {
    /// A header's value, unfolded, as it was sent (not decoded); the first one of that name.
    pub fn header(&self, name: &str) -> Option<String> {
        let (head, _) = self.split();
        let head = head.replace("\r\n ", " ").replace("\r\n\t", " ");
        let value = |line: &str| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        };
        head.split("\r\n").find_map(value)
    }

    /// The body of a message of one part, its transfer encoding undone.
    pub fn text(&self) -> String {
        let (_, body) = self.split();
        let encoding = self.header("content-transfer-encoding").unwrap_or_default();
        let bytes = match encoding.to_ascii_lowercase().as_str() {
            "base64" => BASE64_STANDARD.decode(body.replace("\r\n", "")).unwrap_or_default(),
            "quoted-printable" => unquote(&body),
            _ => body.into_bytes(),
        };
        String::from_utf8_lossy(&bytes).replace("\r\n", "\n")
    }

    fn split(&self) -> (String, String) {
        let text = String::from_utf8_lossy(&self.data);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        (head.to_owned(), body.to_owned())
    }
}

fn unquote(text: &str) -> Vec<u8> {
    let (text, mut bytes) = (text.replace("=\r\n", ""), Vec::new());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|code| std::str::from_utf8(code).ok());
        let decoded = code.and_then(|code| u8::from_str_radix(code, 16).ok());
        match decoded {
            Some(byte) if first == b'=' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfer_encodings_are_undone() {
        let message = |encoding: &str, body: &str| Message {
            from: String::new(),
            to: Vec::new(),
            data: format!("Content-Transfer-Encoding: {encoding}\r\n\r\n{body}").into_bytes(),
        };
        assert_eq!(message("quoted-printable", "gr=C3=BCn=\r\n=3D=").text(), "grün==");
        assert_eq!(message("base64", "Z3LD\r\nvG4=\r\n").text(), "grün");
        assert_eq!(message("7bit", "a\r\nb").text(), "a\nb");
    }
}
