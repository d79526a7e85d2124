//! What a managed server keeps, what it is told, and who may use its folder.

use std::os::unix::fs::PermissionsExt;

use super::*;

struct TempDir(PathBuf);

impl TempDir {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("fluxrig-rack-bus-{name}-{}", std::process::id())))
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn wanted(more: &str) -> ManagedBus {
    let text = format!("meta: {{ name: place, version: 0.1.0 }}\nbus: {{ managed: true{more} }}\ngears: []\n");
    let checked = crate::scenario::check_text("f", &text, &fluxrig_actors::Catalog::new(), &|_| None).unwrap();
    checked.scenario.bus.managed_by("rack").unwrap().clone()
}

#[tokio::test]
async fn ports_and_token_are_kept_and_a_second_rack_is_refused() {
    let dir = TempDir::new("kept");
    let place = Place::open(&dir.0).unwrap();
    let first = place.prepare(&wanted(""), "rack").await.unwrap();
    let second = Place::open_soon(&dir.0).await.unwrap_err();
    assert_eq!(second.exit_code(), 73);
    assert!(second.to_string().contains("in use by another rack"), "{second}");
    drop(place);
    let place = Place::open_soon(&dir.0).await.unwrap();
    let again = place.prepare(&wanted(""), "rack").await.unwrap();
    assert_eq!((first.address, first.monitor, &first.token), (again.address, again.monitor, &again.token));
    assert_eq!(first.token.len(), 48);
    assert!(!format!("{again:?}").contains(&first.token));
    for file in ["kept.json", "nats-server.conf"] {
        let mode = std::fs::metadata(place.dir().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    // Somebody else has the port by now: it was ours to choose, so another one is.
    let taken = TcpListener::bind(first.address).unwrap();
    let other = place.prepare(&wanted(""), "rack").await.unwrap();
    assert_ne!(other.address, first.address);
    assert_eq!(other.monitor, first.monitor);
    drop(taken);
}

#[tokio::test]
async fn a_port_that_was_given_is_not_to_be_taken() {
    let dir = TempDir::new("given");
    let place = Place::open(&dir.0).unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for key in ["port", "monitor_port"] {
        let error = place.prepare(&wanted(&format!(", {key}: {}", address.port())), "rack").await.unwrap_err();
        assert_eq!(error.exit_code(), 98);
        let expected = format!("bus: found address {address} of `bus.{key}` not to be had, expected it free");
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
    drop(taken);
    let given =
        place.prepare(&wanted(&format!(", port: {}, token: 's\"e\\cret'", address.port())), "rack").await.unwrap();
    assert_eq!(given.address, address);
    let config = std::fs::read_to_string(place.config()).unwrap();
    assert!(config.contains("sync_interval: always"), "{config}");
    assert!(config.contains(r#"token: "s\"e\\cret""#), "{config}");
    assert!(config.contains(&format!("listen: \"{address}\"")), "{config}");
}

#[tokio::test]
async fn a_note_of_a_process_that_is_another_by_now_ends_nobody() {
    let dir = TempDir::new("note");
    let place = Place::open(&dir.0).unwrap();
    place.note_pid(std::process::id());
    place.end_leftover().await.unwrap();
    assert!(!place.pid_file().exists());
}
