//! The bus's certificates are checked: a server with another's, or with none, is refused.

use std::fs;

use crate::world::{World, server};
use drover_access::{Authority, Folder, Written};
use drover_bus::{Bus, Options};
use drover_schemas::{Code, users::User};
use drover_testbed::{Bed, Nats, nats::bus_folder};

async fn code_of(options: &Options) -> Code {
    match Bus::connect(options, "test").await {
        Ok(_) => panic!("connected"),
        Err(error) => error.code(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_server_with_the_right_certificate_is_spoken_to() {
    let world = World::new().await;
    let good = world.options().of(&User::Reader).unwrap();
    Bus::connect(&good, "test").await.unwrap();

    let other = world.bed.dir().join("other.pem");
    let stranger = Authority::of_key(&Authority::new_key().unwrap()).unwrap();
    fs::write(&other, stranger.certificate()).unwrap();
    let options = Options { tls_ca_file: Some(other), ..good.clone() };
    assert_eq!(code_of(&options).await, Code::PeerUntrusted);

    // Of the system's authorities none has made it.
    let options = Options { tls_ca_file: None, ..good.clone() };
    assert_eq!(code_of(&options).await, Code::PeerUntrusted);

    // Reached under a name that does not stand in it: the same server through another address.
    let relay = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (name, to) = (relay.local_addr().unwrap(), world.nats.socket());
    tokio::spawn(async move {
        while let Ok((mut client, _)) = relay.accept().await {
            tokio::spawn(async move {
                let mut server = tokio::net::TcpStream::connect(to).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    let options = Options { url: format!("tls://{name}"), ..good.clone() };
    assert_eq!(code_of(&options).await, Code::PeerUntrusted);

    // One that speaks in the clear.
    let bed = Bed::new().unwrap();
    let plain = Nats::start(&bed).unwrap();
    let options = Options { url: plain.url(), ..good };
    assert_eq!(code_of(&options).await, Code::PeerUntrusted);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_key_nobody_is_let_in() {
    let world = World::new().await;
    let nobody = Options { users_folder: None, ..world.options() };
    assert_eq!(code_of(&nobody).await, Code::BusDenied);
    let file = bus_folder(&world.bed).join("users/reader.nk");
    let stranger = nkeys::KeyPair::new_user().seed().unwrap();
    fs::write(&file, stranger).unwrap();
    assert_eq!(code_of(&world.options().of(&User::Reader).unwrap()).await, Code::BusDenied);
    fs::remove_file(&file).unwrap();
    let options = world.options().of(&User::Reader).unwrap();
    assert_eq!(code_of(&options).await, Code::SecretUnreadable);
}

#[test]
fn nothing_is_overwritten_and_secrets_are_their_owners() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let node = |host: &str| drover_access::Node {
        host: host.to_owned(),
        further_names: Vec::new(),
        listen: "0.0.0.0".to_owned(),
        port: 4222,
        store: "/var/lib/nats".into(),
        sync: true,
    };
    let mut bus = drover_access::Bus {
        nodes: vec![node("nats-1.example.net"), node("nats-2.example.net"), node("2001:db8::1")],
        users: vec![User::Admin, User::Dump(server("src-1"))],
        certificates: drover_access::Certificates::Own,
    };
    let init = |bus: &drover_access::Bus| {
        drover_access::init(Folder::new(dir.path()).unwrap(), bus).unwrap()
    };
    let made = init(&bus);
    assert!(made.iter().all(|file| matches!(file, Written::New(_))), "{made:?}");
    let again = init(&bus);
    assert!(again.iter().all(|file| matches!(file, Written::Same(_))), "{again:?}");

    bus.users.push(User::Dump(server("src-2")));
    let changed = init(&bus);
    let beside = |file: &&Written| matches!(file, Written::Beside(_));
    assert_eq!(changed.iter().filter(beside).count(), 3, "{changed:?}");
    let conf = dir.path().join("servers/nats-1.example.net/nats-server.conf");
    assert!(!fs::read_to_string(&conf).unwrap().contains("dump_src-2"));
    let conf = fs::read_to_string(conf.with_extension("conf.new")).unwrap();
    assert!(conf.contains("dump_src-2") && conf.contains("nats-2.example.net:6222"));

    let mut folders = vec![dir.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            if path.is_dir() {
                assert_eq!(mode, 0o700, "{}", path.display());
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "nk" || end == "key")
                || path.ends_with("key.pem")
            {
                assert_eq!(mode, 0o600, "{}", path.display());
            }
        }
    }
}
