//! The bench: every row measured in one run on one machine, printed as JSON lines for `cargo xtask bench`.
//! Rows whose name begins with an argument are run; without arguments all are.

mod bench {
    //! The rows, one file per question.
    pub(crate) mod instructions;
    pub(crate) mod process;
    pub(crate) mod recovery;
    pub(crate) mod restart;
    pub(crate) mod row;
    pub(crate) mod standard;
    pub(crate) mod turbo;
}

use bench::row::Rows;

// Messages are freed on another core than they were made on, which the system's allocator does slowly.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let mut args = std::env::args().skip(1);
    let mut wanted = Vec::new();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            // The table's file is written by the caller.
            "--json" => drop(args.next()),
            "--idle-child" => return bench::process::idle_child(),
            "--pipeline-child" => {
                let lane = args.next().unwrap_or_default();
                let count = args.next().and_then(|count| count.parse().ok()).unwrap_or(0);
                return bench::instructions::child(&lane, count);
            }
            _ => wanted.push(arg),
        }
    }
    let mut rows = Rows::new(wanted);
    bench::turbo::throughput(&mut rows);
    bench::turbo::latency(&mut rows);
    bench::instructions::per_hop(&mut rows);
    bench::standard::latency(&mut rows);
    bench::standard::throughput(&mut rows);
    bench::restart::crash(&mut rows);
    bench::recovery::gibibyte(&mut rows);
    bench::process::start(&mut rows);
}
