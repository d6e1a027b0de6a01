//! Just enough of Rust's lexical grammar for the tidy test: code without its comments and literals.
//!
//! Invariant: every function here keeps each byte in its line, so that line numbers stay true.
//! Not here: what is allowed (`tidy`).

/// The same text with comments, strings and character literals turned into blanks.
pub(crate) fn blank(text: &str) -> String {
    let b = text.as_bytes();
    let mut out = b.to_vec();
    let mut i = 0;
    while i < b.len() {
        let end = match b[i] {
            b'/' if b.get(i + 1) == Some(&b'/') => line_end(b, i),
            b'/' if b.get(i + 1) == Some(&b'*') => block_end(b, i),
            b'"' => string_end(b, i),
            b'r' if !follows_word(b, i) => raw_end(b, i).unwrap_or(i),
            b'b' if !follows_word(b, i) && b.get(i + 1) == Some(&b'r') => {
                raw_end(b, i + 1).unwrap_or(i)
            }
            b'\'' => char_end(b, i).unwrap_or(i),
            _ => i,
        };
        for byte in &mut out[i..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        i = end.max(i + 1);
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn follows_word(b: &[u8], i: usize) -> bool {
    i > 0 && (b[i - 1].is_ascii_alphanumeric() || b[i - 1] == b'_')
}

fn line_end(b: &[u8], from: usize) -> usize {
    b[from..].iter().position(|c| *c == b'\n').map_or(b.len(), |n| from + n)
}

fn block_end(b: &[u8], from: usize) -> usize {
    let (mut depth, mut i) = (0, from);
    while i + 1 < b.len() {
        match (b[i], b[i + 1]) {
            (b'/', b'*') => (depth, i) = (depth + 1, i + 2),
            (b'*', b'/') => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            return i;
        }
    }
    b.len()
}

fn string_end(b: &[u8], from: usize) -> usize {
    let mut i = from + 1;
    while i < b.len() {
        match b[i] {
            b'\\' => i += 2,
            b'"' => return i + 1,
            _ => i += 1,
        }
    }
    b.len()
}

/// The end of `r"…"` or `r#"…"#`, when that is what begins at the `r`.
fn raw_end(b: &[u8], from: usize) -> Option<usize> {
    let hashes = b[from + 1..].iter().take_while(|c| **c == b'#').count();
    let open = from + 1 + hashes;
    if b.get(open) != Some(&b'"') {
        return None;
    }
    let mut close = vec![b'"'];
    close.resize(1 + hashes, b'#');
    let body = &b[open + 1..];
    let at = body.windows(close.len()).position(|w| w == close)?;
    Some(open + 1 + at + close.len())
}

/// The end of a character literal; `None` for a lifetime.
fn char_end(b: &[u8], from: usize) -> Option<usize> {
    let first = *b.get(from + 1)?;
    if first == b'\\' {
        let tail = b.get(from + 3..)?;
        return tail.iter().position(|c| *c == b'\'').map(|n| from + 3 + n + 1);
    }
    let width = match first {
        0..0x80 => 1,
        0x80..0xE0 => 2,
        0xE0..0xF0 => 3,
        _ => 4,
    };
    (b.get(from + 1 + width) == Some(&b'\'')).then_some(from + width + 2)
}

/// The same code with every item under `#[cfg(test)]` blanked.
pub(crate) fn without_tests(code: &str) -> String {
    let mut out = code.as_bytes().to_vec();
    let mut from = 0;
    while let Some(at) = code[from..].find("#[cfg(test)]").map(|n| from + n) {
        let end = item_end(code.as_bytes(), at + "#[cfg(test)]".len());
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        from = end;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Behind the item that begins at or after `from`: its `;`, or the brace that closes its body.
pub(crate) fn item_end(code: &[u8], from: usize) -> usize {
    let (mut braces, mut others) = (0_i32, 0_i32);
    for (i, c) in code.iter().enumerate().skip(from) {
        match c {
            b'(' | b'[' => others += 1,
            b')' | b']' => others -= 1,
            b'{' => braces += 1,
            b'}' => {
                braces -= 1;
                if braces <= 0 && others <= 0 {
                    return i + 1;
                }
            }
            b';' if braces == 0 && others == 0 => return i + 1,
            _ => {}
        }
    }
    code.len()
}

/// Where `word` stands as a whole word.
pub(crate) fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_word = |c: Option<&u8>| c.is_some_and(|c| c.is_ascii_alphanumeric() || *c == b'_');
    code.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let b = code.as_bytes();
        let before = at.checked_sub(1).and_then(|i| b.get(i));
        !is_word(before) && !is_word(b.get(at + word.len()))
    })
}

/// The line (from 1) of a byte.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at].iter().filter(|c| **c == b'\n').count() + 1
}

/// The functions of a file that have a body: name, first line, number of lines.
pub(crate) fn functions(code: &str) -> Vec<(String, usize, usize)> {
    let mut found = Vec::new();
    for at in words(code, "fn") {
        let name: String = code[at + 2..]
            .trim_start()
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        let end = item_end(code.as_bytes(), at);
        if !name.is_empty() && code.as_bytes()[end - 1] == b'}' {
            let first = line_of(code, at);
            found.push((name, first, line_of(code, end - 1) - first + 1));
        }
    }
    found
}

#[test]
fn blanking_keeps_lines_and_removes_literals() {
    let text = concat!(
        "let a = \"un\\\"safe\"; // unsafe\n",
        "let c = '\"'; /* unsafe\n */ let r = r#\"x\"y\"#;\n",
    );
    let code = blank(text);
    assert_eq!(code.lines().count(), 3);
    assert!(!code.contains("safe") && code.contains("let r ="));
    assert_eq!(code.len(), text.len());
}

#[test]
fn a_lifetime_is_no_literal() {
    let code = blank("fn f<'a>(x: &'a str) -> &'a str { x } fn g() { '\\'' ; }");
    assert!(code.contains("fn f<'a>(x: &'a str)") && code.contains("fn g() {      ; }"));
}

#[test]
fn test_items_are_left_out() {
    let code = concat!(
        "fn a() {}\n#[cfg(test)]\nmod tests {\n fn b() { x[0]; }\n}\n",
        "#[cfg(test)]\nuse c::d;\nfn e() {}",
    );
    let kept = without_tests(code);
    assert!(kept.contains("fn a") && kept.contains("fn e"));
    assert!(!kept.contains("fn b") && !kept.contains("use c"));
}

#[test]
fn functions_are_measured() {
    let found = functions("trait T { fn x(&self); }\nfn a(b: [u8; 4]) -> u8\n{\n 1\n}\n");
    assert_eq!(found, [("a".to_string(), 2, 4)]);
}
