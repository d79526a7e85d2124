//! Fixture files: compared with what the code makes, or rewritten when `UPDATE_FIXTURES` is set.
//! Also the listing of a message, read by a codec that is not ours.

use std::{fmt::Write as _, fs, path::PathBuf};

/// `fixtures/<subject>` of this crate.
pub(crate) fn folder(subject: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(subject)
}

/// Compares one file with what it should hold.
pub(crate) fn check(subject: &str, file: &str, actual: &[u8]) {
    let path = folder(subject).join(file);
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        fs::write(&path, actual).unwrap();
        return;
    }
    let expected = fs::read(&path).unwrap_or_else(|error| panic!("{subject}/{file}: {error}; set UPDATE_FIXTURES=1"));
    let (shown, wanted) = (String::from_utf8_lossy(actual), String::from_utf8_lossy(&expected));
    assert!(actual == expected, "{subject}/{file} differs; found:\n{shown}\nexpected:\n{wanted}");
}

/// No file without its case: a renamed case must not leave its old file behind.
pub(crate) fn check_complete(subject: &str, cases: &[&str]) {
    for entry in fs::read_dir(folder(subject)).unwrap() {
        let path = entry.unwrap().path();
        let case = path.file_stem().unwrap().to_str().unwrap();
        assert!(cases.contains(&case), "{} belongs to no case; remedy: delete it", path.display());
    }
}

/// All `.cbor` files of a folder, by name.
pub(crate) fn cbor_files(folder: &std::path::Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "cbor"))
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

/// A message in diagnostic notation, one top-level key a line. Long values are cut: the bytes are in the file beside.
pub(crate) fn listing(bytes: &[u8]) -> String {
    let mut decoder = minicbor::Decoder::new(bytes);
    let fields = decoder.map().unwrap().unwrap();
    let mut out = format!("{} bytes, {fields} fields\n", bytes.len());
    for _ in 0..fields {
        let key = decoder.int().unwrap();
        let start = decoder.position();
        decoder.skip().unwrap();
        let mut value = minicbor::display(&bytes[start..decoder.position()]).to_string();
        if let Some((cut, _)) = value.char_indices().nth(900) {
            value.truncate(cut);
            value.push_str(" …");
        }
        writeln!(out, "{key}: {value}").unwrap();
    }
    assert_eq!(decoder.position(), bytes.len());
    out
}
