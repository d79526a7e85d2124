//! The bench: every row measured in one run on one machine, printed as JSON lines for `cargo xtask bench`.
//! Rows whose name begins with an argument are run; without arguments all are. `--peers` runs others beside us.

mod bench {
    //! The rows, one file per question, and what they share.
    pub(crate) mod backlog;
    pub(crate) mod binary;
    pub(crate) mod callgrind;
    pub(crate) mod codec;
    pub(crate) mod daemon;
    pub(crate) mod instructions;
    pub(crate) mod isoload;
    pub(crate) mod jpos;
    pub(crate) mod message;
    pub(crate) mod nats;
    pub(crate) mod process;
    pub(crate) mod recovery;
    pub(crate) mod relay;
    pub(crate) mod restart;
    pub(crate) mod row;
    pub(crate) mod standard;
    pub(crate) mod stream;
    pub(crate) mod switch;
    pub(crate) mod turbo;
    pub(crate) mod wires;
}

use bench::row::Rows;

// Messages are freed on another core than they were made on, which the system's allocator does slowly.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// This program started by itself: does one thing so many times and ends.
type Child = fn(&str, u64);
const CHILDREN: [(&str, Child); 3] = [
    ("--pipeline-child", bench::instructions::child),
    ("--codec-child", bench::codec::repeat),
    ("--relay-child", bench::relay::child),
];

fn main() {
    let mut args = std::env::args().skip(1);
    let (mut wanted, mut has_peers) = (Vec::new(), false);
    while let Some(arg) = args.next() {
        if let Some((_, child)) = CHILDREN.iter().find(|(name, _)| *name == arg) {
            let what = args.next().unwrap_or_default();
            let count = args.next().and_then(|count| count.parse().ok()).unwrap_or(0);
            return child(&what, count);
        }
        match arg.as_str() {
            // The table's file is written by the caller.
            "--json" => drop(args.next()),
            "--idle-child" => return bench::process::idle_child(),
            "--peers" => has_peers = true,
            _ => wanted.push(arg),
        }
    }
    let mut rows = Rows::new(wanted);
    bench::turbo::throughput(&mut rows);
    bench::turbo::latency(&mut rows);
    bench::instructions::hot_paths(&mut rows);
    bench::standard::latency(&mut rows);
    bench::standard::throughput(&mut rows);
    bench::restart::crash(&mut rows);
    bench::recovery::gibibyte(&mut rows);
    bench::process::start(&mut rows);
    bench::codec::time(&mut rows);
    bench::binary::itself(&mut rows);
    bench::backlog::resume(&mut rows);
    bench::nats::beside(&mut rows);
    bench::stream::beside(&mut rows);
    bench::wires::beside(&mut rows);
    bench::switch::on_stream(&mut rows);
    let jpos = has_peers.then(|| bench::jpos::Jpos::measure(&mut rows)).flatten();
    bench::switch::end_to_end(&mut rows, jpos.as_ref());
}
