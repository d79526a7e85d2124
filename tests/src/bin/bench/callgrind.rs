//! Counts by callgrind: instructions, and calls of the allocator, of this program doing something so many times.
//! Neither depends on what else the machine does, so a change of either is a change of the code.

use std::process::Command;

use super::row::Scratch;

/// What mimalloc is called by, once per allocation.
const ALLOCATING: [&str; 3] = ["mi_malloc_aligned", "mi_zalloc_aligned", "mi_realloc_aligned"];

/// What one time of it costs.
pub(crate) struct Cost {
    pub(crate) instructions: f64,
    /// Memory asked for, or asked to grow.
    pub(crate) allocations: f64,
}

/// Whether it is installed; says so where it is not.
pub(crate) fn is_here(what: &str) -> bool {
    let is_here = Command::new("valgrind").arg("--version").output().is_ok();
    if !is_here {
        eprintln!("SKIPPED: {what}: they need valgrind, which is not installed");
    }
    is_here
}

/// The difference of two runs, so that start and end of the process do not count. `child` is what this program is told,
/// followed by how many times.
pub(crate) fn per_time(child: &[&str], few: u64, many: u64) -> Cost {
    let (low, high) = (counted(child, few), counted(child, many));
    let per_time = |low: f64, high: f64| (high - low) / (many - few) as f64;
    Cost {
        instructions: per_time(low.instructions, high.instructions),
        allocations: per_time(low.allocations, high.allocations),
    }
}

fn counted(child: &[&str], count: u64) -> Cost {
    let scratch = Scratch::new("callgrind");
    let file = scratch.0.join("out");
    let program = std::env::current_exe().expect("this program has a path");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--compress-strings=no"])
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(program)
        .args(child)
        .arg(count.to_string())
        .output()
        .expect("valgrind starts");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "the counted program ends well: {text}");
    let collected = text.lines().find_map(|line| line.split_once("Collected : "));
    let instructions = collected.and_then(|(_, count)| count.trim().parse().ok());
    let profile = std::fs::read(&file).expect("callgrind wrote what it counted");
    Cost {
        instructions: instructions.unwrap_or_else(|| panic!("callgrind says what it collected: {text}")),
        allocations: allocations(&String::from_utf8_lossy(&profile)) as f64,
    }
}

/// Calls of the allocator from outside of it. A profile names the caller in a line `fn=`, then each callee in `cfn=` with
/// `calls=` behind it.
fn allocations(profile: &str) -> u64 {
    let (mut caller, mut callee, mut count) = ("", "", 0);
    for line in profile.lines() {
        if let Some(name) = line.strip_prefix("fn=") {
            caller = name;
        } else if let Some(name) = line.strip_prefix("cfn=") {
            callee = name;
        } else if let Some(calls) = line.strip_prefix("calls=")
            && ALLOCATING.contains(&callee)
            && !caller.starts_with("mi_")
        {
            count += calls.split(' ').next().and_then(|calls| calls.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    count
}
