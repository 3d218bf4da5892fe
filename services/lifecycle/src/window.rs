//! The hours in which a campaign may run: `22:00-06:00 Europe/Paris`, with dates left out.
//!
//! 1. A window belongs to the date on which it begins: to leave out the 24th is to leave out the
//!    night from the 24th to the 25th.
//! 2. It is by the clock on the wall there. Where the clock is put forward or back, the night is an
//!    hour shorter or longer; an hour that there is not begins when it is over.
//! 3. What would not finish in it, by the time that such migrations took of late, is not begun. What
//!    is in flight at its end finishes.

use std::{fmt, str::FromStr};

use jiff::{Timestamp, civil, tz::TimeZone};

/// How many windows a campaign may have, and how many dates may be left out.
pub const WINDOWS_MAX: usize = 100;

/// One window of every day.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    from: civil::Time,
    until: civil::Time,
    zone: TimeZone,
    text: String,
}

/// A text that is no window, or no date.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}`: {what}")]
pub struct InvalidWindow {
    text: String,
    what: &'static str,
}

impl FromStr for Window {
    type Err = InvalidWindow;

    fn from_str(text: &str) -> Result<Self, InvalidWindow> {
        let invalid = |what| InvalidWindow { text: text.to_owned(), what };
        let (hours, zone) =
            text.split_once(' ').ok_or_else(|| invalid("its time zone is missing"))?;
        let (from, until) = hours
            .split_once('-')
            .ok_or_else(|| invalid("it is written 22:00-06:00 Europe/Paris"))?;
        let time = |text: &str| {
            civil::Time::strptime("%H:%M", text).map_err(|_| invalid("a time is written 22:00"))
        };
        let zone = TimeZone::get(zone).map_err(|_| invalid("there is no such time zone"))?;
        Ok(Self { from: time(from)?, until: time(until)?, zone, text: text.to_owned() })
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Window {
    /// When the one that is open now ends, in ms since 1970; none where it is closed.
    fn open_until(&self, left_out: &[civil::Date], now: Timestamp) -> Option<i64> {
        let today = self.zone.to_datetime(now).date();
        let begins = [today.yesterday().ok(), Some(today)].into_iter().flatten();
        let open = begins.filter(|date| !left_out.contains(date)).filter_map(|date| {
            let last = if self.until > self.from { date } else { date.tomorrow().ok()? };
            let [begin, end] = [(date, self.from), (last, self.until)]
                .map(|(date, time)| self.zone.to_timestamp(date.to_datetime(time)));
            let (begin, end) = (begin.ok()?, end.ok()?);
            (begin <= now && now < end).then(|| end.as_millisecond())
        });
        open.max()
    }
}

/// All windows of a campaign.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Windows {
    windows: Vec<Window>,
    left_out: Vec<civil::Date>,
}

impl Windows {
    /// From what is recorded of them. None at all is no restriction.
    ///
    /// # Errors
    /// When one is not a window, or not a date, or there are too many.
    pub fn new(windows: &[String], left_out: &[String]) -> Result<Self, InvalidWindow> {
        if windows.len().max(left_out.len()) > WINDOWS_MAX {
            return Err(InvalidWindow { text: String::new(), what: "there are too many" });
        }
        let date = |text: &String| {
            let invalid = |_| InvalidWindow { text: text.clone(), what: "a date is 2026-12-24" };
            text.parse::<civil::Date>().map_err(invalid)
        };
        Ok(Self {
            windows: windows.iter().map(|text| text.parse()).collect::<Result<_, _>>()?,
            left_out: left_out.iter().map(date).collect::<Result<_, _>>()?,
        })
    }

    /// Whether one that takes so long may begin now.
    pub fn lets_begin(&self, now_unix_ms: i64, takes_ms: i64) -> bool {
        if self.windows.is_empty() {
            return true;
        }
        self.open_until(now_unix_ms).is_some_and(|end| now_unix_ms.saturating_add(takes_ms) <= end)
    }

    /// When the one that is open now ends, in ms since 1970; none where none is open.
    pub fn open_until(&self, now_unix_ms: i64) -> Option<i64> {
        let now = Timestamp::from_millisecond(now_unix_ms).ok()?;
        self.windows.iter().filter_map(|window| window.open_until(&self.left_out, now)).max()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn windows(windows: &[&str], left_out: &[&str]) -> Windows {
        let texts = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        Windows::new(&texts(windows), &texts(left_out)).unwrap()
    }

    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    /// The minutes of a time range, in UTC, in which one that takes a moment may begin.
    fn minutes(windows: &Windows, from: &str, until: &str) -> usize {
        (at(from)..at(until)).step_by(60_000).filter(|now| windows.lets_begin(*now, 0)).count()
    }

    const NIGHT: &str = "22:00-06:00 Europe/Paris";

    #[test]
    fn a_night_has_its_hours_also_where_the_clock_is_changed() {
        let night = windows(&[NIGHT], &[]);
        for (from, until, hours) in [
            ("2026-06-10T12:00:00Z", "2026-06-11T12:00:00Z", 8),
            // Put forward on 29 March, back on 25 October.
            ("2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z", 7),
            ("2026-10-24T12:00:00Z", "2026-10-25T12:00:00Z", 9),
        ] {
            assert_eq!(minutes(&night, from, until), hours * 60, "{from}");
        }
        assert!(!night.lets_begin(at("2026-06-10T19:59:59Z"), 0));
        assert!(night.lets_begin(at("2026-06-10T20:00:00Z"), 0));
        assert!(!night.lets_begin(at("2026-06-11T04:00:00Z"), 0));
    }

    #[test]
    fn an_hour_that_there_is_not_or_twice() {
        let early = windows(&["02:30-04:00 Europe/Paris"], &[]);
        // On the day of the change it begins when the missing hour is over, at 03:30.
        assert_eq!(minutes(&early, "2026-03-29T00:00:00Z", "2026-03-29T12:00:00Z"), 30);
        // The first 02:30 of two begins it.
        assert_eq!(minutes(&early, "2026-10-25T00:00:00Z", "2026-10-25T12:00:00Z"), 150);
    }

    #[test]
    fn a_date_that_is_left_out_is_the_night_that_begins_on_it() {
        let night = windows(&[NIGHT], &["2026-12-24"]);
        assert!(night.lets_begin(at("2026-12-24T02:00:00Z"), 0), "the night before");
        assert!(!night.lets_begin(at("2026-12-24T22:00:00Z"), 0));
        assert!(!night.lets_begin(at("2026-12-25T03:00:00Z"), 0));
        assert!(night.lets_begin(at("2026-12-25T22:00:00Z"), 0));
    }

    #[test]
    fn what_would_not_finish_is_not_begun_and_a_day_may_have_two() {
        let two = windows(&[NIGHT, "12:00-13:00 UTC"], &[]);
        assert!(two.lets_begin(at("2026-06-10T12:29:00Z"), 30 * 60_000));
        assert!(!two.lets_begin(at("2026-06-10T12:31:00Z"), 30 * 60_000));
        assert!(two.lets_begin(at("2026-06-11T03:29:00Z"), 30 * 60_000));
        assert!(!two.lets_begin(at("2026-06-11T03:31:00Z"), 30 * 60_000));
        assert!(windows(&[], &["2026-06-10"]).lets_begin(at("2026-06-10T12:00:00Z"), i64::MAX));
    }

    #[test]
    fn what_is_no_window_is_refused() {
        for text in
            ["", "22:00-06:00", "22-06 UTC", "22:00-25:00 UTC", "22:00-06:00 Europe/Nowhere"]
        {
            assert!(text.parse::<Window>().is_err(), "{text}");
        }
        assert!(Windows::new(&[], &["24.12.".to_owned()]).is_err());
    }

    proptest! {
        #[test]
        fn what_may_begin_also_may_if_it_is_shorter(
            from in 0u32..24, until in 0u32..24, now in 0i64..4_000_000_000, takes in 0i64..40_000_000
        ) {
            let text = format!("{from:02}:00-{until:02}:00 America/New_York");
            let windows = windows(&[&text], &[]);
            let now = now * 1_000;
            prop_assert!(!windows.lets_begin(now, takes) || windows.lets_begin(now, takes / 2));
            prop_assert!(!windows.lets_begin(now, 26 * 3_600_000), "no window is longer than a day");
        }

        #[test]
        fn any_text_is_refused_or_is_written_as_it_was(text: String) {
            if let Ok(window) = text.parse::<Window>() {
                prop_assert_eq!(window.to_string(), text);
            }
        }
    }
}
