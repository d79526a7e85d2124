//! The simulated network by itself: bytes arrive whole and in order, and each kind of trouble is what it says.

use std::io::ErrorKind;
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::timeout;

use super::*;

const DOOR: &str = "127.0.0.1:7000";

/// Both ends of a connection from the process to somebody outside.
async fn pair(network: &Network, process: &Process) -> (Stream, Stream) {
    let listener = network.bind(DOOR).unwrap();
    let (near, far) = tokio::join!(process.connect(DOOR), listener.accept());
    (near.unwrap(), far.unwrap())
}

async fn read_all(stream: &mut Stream) -> (Vec<u8>, Option<ErrorKind>) {
    let mut buffer = BytesMut::new();
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) => return (buffer.to_vec(), None),
            Ok(_) => {}
            Err(error) => return (buffer.to_vec(), Some(error.kind())),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_arrive_whole_in_order_and_in_pieces() {
    let mut pieces = 0;
    for seed in 0..20 {
        let network = Network::new(seed);
        let process = network.process(|| true);
        let (near, mut far) = pair(&network, &process).await;
        let sent: Vec<u8> = (0..=255).collect();
        for part in sent.chunks(64) {
            near.send(part).unwrap();
        }
        drop(near);
        assert_eq!(read_all(&mut far).await, (sent.clone(), None));
        let heard = network.heard();
        pieces = pieces.max(heard.len());
        assert_eq!(heard.iter().flat_map(|heard| heard.bytes.to_vec()).collect::<Vec<_>>(), sent);
    }
    assert!(pieces > 4, "some of four writes come apart");
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_times() {
    let mut runs = Vec::new();
    for seed in [7, 7, 8, 9, 10, 11] {
        let origin = Instant::now();
        let network = Network::new(seed);
        let process = network.process(|| true);
        let (near, mut far) = pair(&network, &process).await;
        near.send(&[0; 512]).unwrap();
        drop(near);
        read_all(&mut far).await;
        runs.push(network.heard().iter().map(|heard| (heard.at - origin, heard.bytes.len())).collect::<Vec<_>>());
    }
    assert_eq!(runs[0], runs[1]);
    assert!(runs.iter().any(|run| *run != runs[0]));
}

#[tokio::test(start_paused = true)]
async fn a_process_that_writes_waits_for_its_peer() {
    let network = Network::new(1);
    let process = network.process(|| true);
    let (near, mut far) = pair(&network, &process).await;
    let (_read, write) = near.into_split();
    let taken = write.try_write(&[7; 100_000]).unwrap();
    assert_eq!(taken, 64 << 10);
    assert_eq!(write.try_write(&[7]).unwrap_err().kind(), ErrorKind::WouldBlock);
    far.read(&mut BytesMut::new()).await.unwrap();
    write.writable().await;
    assert!(write.try_write(&[7]).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_reset_breaks_both_ends_and_a_refusal_ends_by_itself() {
    let network = Network::new(1);
    let process = network.process(|| true);
    let (mut near, mut far) = pair(&network, &process).await;
    assert_eq!(network.trouble("localhost:7000", Trouble::Reset), 1);
    assert_eq!(read_all(&mut near).await.1, Some(ErrorKind::ConnectionReset));
    assert_eq!(read_all(&mut far).await.1, Some(ErrorKind::ConnectionReset));
    let _listener = network.bind(DOOR).unwrap();
    let until = Instant::now() + Duration::from_secs(5);
    network.trouble(DOOR, Trouble::Refuse(until));
    assert_eq!(process.connect(DOOR).await.err().unwrap().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(network.refused(), 1);
    sleep_until(until).await;
    assert!(process.connect(DOOR).await.is_ok());
    assert_eq!(process.connect("127.0.0.1:7001").await.err().unwrap().kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test(start_paused = true)]
async fn a_stall_loses_nothing_and_a_black_hole_everything() {
    let network = Network::new(1);
    let process = network.process(|| true);
    let (near, mut far) = pair(&network, &process).await;
    let until = Instant::now() + Duration::from_secs(5);
    near.send(b"before").unwrap();
    network.trouble(DOOR, Trouble::Stall(until));
    near.send(b", meanwhile").unwrap();
    let mut buffer = BytesMut::new();
    while buffer.len() < 17 {
        far.read(&mut buffer).await.unwrap();
    }
    assert!(Instant::now() >= until);
    assert_eq!(&buffer[..], b"before, meanwhile");
    let until = Instant::now() + Duration::from_secs(5);
    assert_eq!(network.trouble(DOOR, Trouble::Blackhole(until)), 1);
    near.send(b"lost").unwrap();
    assert!(far.is_lost());
    assert!(timeout(Duration::from_secs(60), far.read(&mut buffer)).await.is_err(), "nobody is told");
    assert_eq!(near.send(b"late").unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn a_kill_is_told_to_peers_and_a_power_cut_is_not() {
    for is_power in [false, true] {
        let network = Network::new(1);
        let process = network.process(|| true);
        let (near, mut far) = pair(&network, &process).await;
        near.send(b"the last").unwrap();
        if !is_power {
            sleep(Duration::from_millis(100)).await;
        }
        network.end_process(is_power);
        assert!(near.send(b"too late").is_err());
        if !is_power {
            assert_eq!(read_all(&mut far).await.0, b"the last");
            continue;
        }
        let mut buffer = BytesMut::new();
        assert!(timeout(Duration::from_secs(60), far.read(&mut buffer)).await.is_err());
        far.send(b"is anybody there?").unwrap();
        let _next = network.process(|| true);
        assert!(far.send(b"and now?").is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_process_listened_on_is_free_when_it_is_gone() {
    let network = Network::new(1);
    let first = network.process(|| true);
    let listener = first.bind("0.0.0.0:7000").unwrap();
    assert_eq!(network.bind(DOOR).err().unwrap().kind(), ErrorKind::AddrInUse);
    let waiting = network.connect(DOOR).await.unwrap();
    network.end_process(false);
    assert!(listener.accept().await.is_err());
    let second = network.process(|| true);
    let _listener = second.bind(DOOR).unwrap();
    // The one that is gone takes nothing of the next one along.
    drop(listener);
    assert!(network.connect("localhost:7000").await.is_ok());
    assert!(waiting.send(b"to nobody").is_err());
    let dead = network.process(|| false);
    assert!(dead.bind("127.0.0.1:7002").is_err() && dead.connect(DOOR).await.is_err());
}
