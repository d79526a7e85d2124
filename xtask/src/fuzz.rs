//! `cargo xtask fuzz`: one fuzz target of `tests/fuzz` for a while. Its corpus is also read by ordinary tests.

use anyhow::{Context, Result, bail};

use crate::child;
use crate::usage::{self, Usage};

pub(crate) const ARGUMENTS: &str = "TARGET [--seconds N]";

const FOLDER: &str = "tests/fuzz";
const SECONDS_BY_DEFAULT: u64 = 60;

/// Fuzzes one target.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let targets = targets()?;
    let (target, seconds) = parse(arguments, &targets)?;
    if child::answer("cargo", &["fuzz", "--version"]).is_none() {
        bail!("`cargo fuzz` does not run here; remedy: `cargo install cargo-fuzz --locked`, then again");
    }
    let mut fuzz = child::cargo("fuzz run");
    fuzz.arg(target).args(["--", &format!("-max_total_time={seconds}")]);
    // The sanitizer flags of cargo-fuzz are unstable; the variable lets the stable compiler of the workspace take them.
    fuzz.current_dir(child::root().join(FOLDER)).env("RUSTC_BOOTSTRAP", "1");
    child::run(&mut fuzz)
}

fn parse<'a>(arguments: &'a [String], targets: &[String]) -> Result<(&'a str, u64), Usage> {
    let known = || format!("targets: {}", targets.join(", "));
    let Some((target, rest)) = arguments.split_first() else {
        return Err(Usage(format!("`fuzz` needs a target; {}", known())));
    };
    if !targets.contains(target) {
        return Err(Usage(format!("`{target}` is no fuzz target; {}", known())));
    }
    match rest.split_first() {
        None => Ok((target, SECONDS_BY_DEFAULT)),
        Some((flag, rest)) if flag == "--seconds" => {
            let seconds = usage::number(flag, rest.first())?;
            usage::none(&rest[1..])?;
            Ok((target, seconds))
        }
        Some((flag, _)) => Err(Usage(format!("`{flag}` is no option of `fuzz`: {ARGUMENTS}"))),
    }
}

/// Names of the targets: each is a file.
fn targets() -> Result<Vec<String>> {
    let folder = format!("{FOLDER}/fuzz_targets");
    let files = std::fs::read_dir(child::root().join(&folder))
        .with_context(|| format!("{folder}: no fuzz targets; remedy: add `<target>.rs` there"))?;
    let mut names = Vec::new();
    for file in files {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_then_perhaps_a_time() {
        let targets = ["msg".to_owned()];
        let words = |line: &str| line.split_whitespace().map(String::from).collect::<Vec<_>>();
        assert_eq!(parse(&words("msg"), &targets).unwrap(), ("msg", SECONDS_BY_DEFAULT));
        assert_eq!(parse(&words("msg --seconds 5"), &targets).unwrap(), ("msg", 5));
        for wrong in ["", "frame", "msg --seconds", "msg --seconds 5 6", "msg 5"] {
            assert!(parse(&words(wrong), &targets).is_err(), "{wrong}");
        }
    }
}
