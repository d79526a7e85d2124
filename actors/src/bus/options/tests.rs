//! Every mistake in the options, with its text; and what is never shown.

use super::*;

fn texts(options: &BusOptions) -> Vec<String> {
    options.errors().iter().map(ToString::to_string).collect()
}

fn read(json: &str) -> Result<BusOptions, serde_json::Error> {
    serde_json::from_str(json)
}

#[test]
fn good_options() {
    let options = read(
        r#"{ "servers": ["nats://a:4222", "tls://b.example", "nats://[::1]:4223"], "user": "u", "password": "p",
             "tls": { "ca": "ca.pem", "cert": "c.pem", "key": "k.pem" }, "domain": "hub", "replicas": 3,
             "monitor_url": "http://a:8222", "assume_sync": true, "max_bytes": 1048576 }"#,
    )
    .unwrap();
    assert_eq!(texts(&options), [""; 0]);
    assert_eq!((BusOptions::default().replicas, options.replicas), (1, 3));
    assert!(read(r#"{ "server": [] }"#).unwrap_err().to_string().contains("unknown field `server`"));
    assert!(read(r#"{ "tls": { "certs": "x" } }"#).is_err());
}

type Change = fn(&mut BusOptions);

#[test]
fn every_mistake_is_said() {
    let of = |change: Change| {
        let mut options = BusOptions::at(["nats://127.0.0.1:4222"]);
        change(&mut options);
        let texts = texts(&options);
        assert_eq!(texts.len(), 1, "{texts:?}");
        let text = texts.into_iter().next().unwrap();
        assert!(text.contains("expected") && text.contains("remedy: ") && !text.contains("hidden"), "{text}");
        text
    };
    let cases: [(Change, &str); 16] = [
        (|options| options.servers.clear(), "`servers` is empty"),
        (|options| options.servers.push("127.0.0.1:4222".into()), "an address without a scheme at position 2"),
        (|options| options.servers = vec!["ws://a:1".into()], "an address of another scheme"),
        (|options| options.servers = vec!["nats://u:hidden@a:1".into()], "an address with a user or a token"),
        (|options| options.servers = vec!["nats://a:99999".into()], "no host and port"),
        (|options| options.user = Some("u".into()), "`user` is without `password`"),
        (|options| options.password = Some(Secret::new("hidden")), "`password` is without `user`"),
        (
            |options| {
                options.token = Some(Secret::new("hidden"));
                options.credentials = Some("u.creds".into());
            },
            "one of 2 ways to sign in (`token`, `credentials`)",
        ),
        (|options| options.nkey = Some(Secret::new("hidden")), "`nkey` is no seed of a user"),
        (
            |options| options.tls = Some(BusTls { cert: Some("c".into()), ..BusTls::default() }),
            "`tls.cert` is without `key`",
        ),
        (
            |options| options.tls = Some(BusTls { key: Some("k".into()), ..BusTls::default() }),
            "`tls.key` is without `cert`",
        ),
        (|options| options.replicas = 0, "`replicas` is 0"),
        (|options| options.replicas = 6, "`replicas` is 6"),
        (|options| options.domain = Some("a.b".into()), "`domain` is no name"),
        (|options| options.monitor_url = Some("https://a:8222".into()), "`monitor_url` is no such address"),
        (|options| options.max_bytes = Some(1000), "`max_bytes` is 1000 bytes"),
    ];
    for (change, part) in cases {
        let text = of(change);
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn secrets_are_never_shown() {
    let options = BusOptions {
        password: Some(Secret::new("hidden")),
        token: Some(Secret::new("hidden")),
        nkey: Some(Secret::new("hidden")),
        ..BusOptions::default()
    };
    assert!(!format!("{options:?}{:?}", options.errors()).contains("hidden"));
    assert_eq!(options.token.unwrap().expose(), "hidden");
}

#[test]
fn monitors() {
    assert_eq!(monitor_address("http://127.0.0.1:8223/"), Some(("127.0.0.1", 8223)));
    assert_eq!(monitor_address("http://[::1]:1"), Some(("::1", 1)));
    assert_eq!(monitor_address("http://host"), Some(("host", 8222)));
    for other in ["host:8222", "http://", "http://a/b:1", "http://u@a:1", "http://a:0"] {
        assert_eq!(monitor_address(other), None, "{other}");
    }
}
