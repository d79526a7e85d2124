//! Tells code from comments and strings in Rust source, so that a rule about code is not fooled by a sentence about code.

/// Two texts with the same lines and bytes as `source`: one shows only code, the other only comments.
/// Strings show in neither. What is hidden is blank.
pub(super) fn split(source: &str) -> (String, String) {
    let (mut code, mut comments) = (String::with_capacity(source.len()), String::with_capacity(source.len()));
    let mut rest = source;
    let mut before = None;
    while let Some(first) = rest.chars().next() {
        let (kind, len) = token(rest, before);
        let (token, after) = rest.split_at(len);
        let blank: String = token.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect();
        code.push_str(if kind == Kind::Code { token } else { &blank });
        comments.push_str(if kind == Kind::Comment { token } else { &blank });
        before = Some(first);
        rest = after;
    }
    (code, comments)
}

#[derive(PartialEq)]
enum Kind {
    Code,
    Comment,
    Text,
}

/// Kind and length in bytes of what `rest` begins with; `before` is the character in front of it.
fn token(rest: &str, before: Option<char>) -> (Kind, usize) {
    let bytes = rest.as_bytes();
    let is_word_start = !before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    match bytes[0] {
        b'/' if rest.starts_with("//") => (Kind::Comment, rest.find('\n').unwrap_or(rest.len())),
        b'/' if rest.starts_with("/*") => (Kind::Comment, block_comment_len(bytes)),
        b'"' => (Kind::Text, quoted_len(bytes)),
        b'\'' => char_len(rest).map_or((Kind::Code, 1), |len| (Kind::Text, len)),
        b'r' | b'b' | b'c' if is_word_start => raw_len(rest).map_or((Kind::Code, 1), |len| (Kind::Text, len)),
        _ => (Kind::Code, rest.chars().next().map_or(1, char::len_utf8)),
    }
}

/// Block comments nest.
fn block_comment_len(bytes: &[u8]) -> usize {
    let mut depth = 0;
    let mut idx = 0;
    while idx < bytes.len() {
        match &bytes[idx..] {
            [b'/', b'*', ..] => (depth, idx) = (depth + 1, idx + 2),
            [b'*', b'/', ..] => (depth, idx) = (depth - 1, idx + 2),
            _ => idx += 1,
        }
        if depth == 0 {
            break;
        }
    }
    idx
}

fn quoted_len(bytes: &[u8]) -> usize {
    let mut idx = 1;
    while idx < bytes.len() && bytes[idx] != b'"' {
        idx += if bytes[idx] == b'\\' { 2 } else { 1 };
    }
    (idx + 1).min(bytes.len())
}

/// `'a'` and `'\n'` are characters, `'a` is a lifetime.
fn char_len(rest: &str) -> Option<usize> {
    let inner = rest[1..].chars().next()?;
    if inner == '\\' {
        // The character behind the backslash may itself be a quote.
        return rest.get(3..)?.find('\'').map(|idx| idx + 4);
    }
    let end = 1 + inner.len_utf8();
    rest[end..].starts_with('\'').then_some(end + 1)
}

/// `r"…"`, `r#"…"#`, `br"…"` and the like; a plain `b"…"` is left to the quote behind its prefix.
fn raw_len(rest: &str) -> Option<usize> {
    let prefix = rest.find('r').filter(|idx| *idx <= 1 && (*idx == 0 || !rest.starts_with('r')))? + 1;
    let hashes = rest[prefix..].bytes().take_while(|byte| *byte == b'#').count();
    let start = prefix + hashes;
    rest[start..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let len = rest[start + 1..].find(&end).map_or(rest.len(), |idx| start + 1 + idx + end.len());
    Some(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &str, code: &str, comments: &str) {
        assert_eq!(split(source), (code.into(), comments.into()), "{source}");
    }

    #[test]
    fn comments_leave_the_code() {
        check("a // b\nc", "a     \nc", "  // b\n ");
        check("a /* /* b */ */ c", "a               c", "  /* /* b */ */  ");
    }

    #[test]
    fn strings_leave_both() {
        check(r#"a("//\"b") c"#, "a(       ) c", "            ");
        check(r###"a(r#"b"c"#) d"###, "a(        ) d", "             ");
        check(r#"br"\" x"#, "      x", "       ");
        check("a(\"µ\")", "a(    )", "       ");
    }

    #[test]
    fn characters_are_no_lifetimes() {
        check(r"f('\'', 'b') <'a>", "f(    ,    ) <'a>", "                 ");
        check("for r in b", "for r in b", "          ");
    }
}
