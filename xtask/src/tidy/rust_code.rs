//! Rust source without its comments and literals, so that a rule sees code alone.

/// The source with comments, strings and characters blanked; lines stay where they are.
pub fn code_of(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let before = code.chars().next_back();
        let length = skipped(rest, before);
        if length == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            code.extend(rest[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = &rest[length..];
        }
    }
    code
}

/// Lines of `code` (numbered from 1) that hold `word` as a whole word.
pub fn lines_with(code: &str, word: &str) -> Vec<usize> {
    let holds = |line: &str| line.match_indices(word).any(|(i, _)| is_whole(line, i, word));
    code.lines().enumerate().filter(|(_, line)| holds(line)).map(|(i, _)| i + 1).collect()
}

fn is_whole(line: &str, start: usize, word: &str) -> bool {
    let before = line[..start].chars().next_back();
    let after = line[start + word.len()..].chars().next();
    let goes_on = word.ends_with(is_word) && after.is_some_and(is_word);
    !before.is_some_and(is_word) && !goes_on
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Bytes of the comment or literal that `rest` starts with, or 0.
fn skipped(rest: &str, before: Option<char>) -> usize {
    let in_word = before.is_some_and(is_word);
    if rest.starts_with("//") {
        rest.find('\n').unwrap_or(rest.len())
    } else if rest.starts_with("/*") {
        block_comment(rest)
    } else if rest.starts_with('"') {
        quoted(rest, '"')
    } else if rest.starts_with('\'') {
        character(rest)
    } else if in_word {
        0
    } else {
        raw_string(rest)
    }
}

/// Block comments nest.
fn block_comment(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (i, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return i + 1,
            _ => {}
        }
    }
    rest.len()
}

/// A character literal; a lifetime has no closing quote behind its first character.
fn character(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), _) => quoted(rest, '\''),
        (Some(_), Some((i, '\''))) => i + 1,
        _ => 0,
    }
}

/// `r"..."`, `r#"..."#`, `br#"..."#` and so on.
fn raw_string(rest: &str) -> usize {
    let prefix = rest.len() - rest.trim_start_matches(['b', 'c']).len();
    let Some(raw) = rest[prefix..].strip_prefix('r').filter(|_| prefix <= 1) else { return 0 };
    let hashes = raw.len() - raw.trim_start_matches('#').len();
    let Some(body) = raw[hashes..].strip_prefix('"') else { return 0 };
    let end = format!("\"{}", "#".repeat(hashes));
    let start = rest.len() - body.len();
    body.find(&end).map_or(rest.len(), |i| start + i + end.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(source: &str, expected: &str) {
        let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(squeeze(&code_of(source)), expected);
        assert_eq!(code_of(source).lines().count(), source.lines().count());
    }

    #[test]
    fn comments_and_literals_are_blanked() {
        check("let a = 1; // unsafe\nlet b;", "let a = 1; let b;");
        check("a /* unsafe /* nested */ still\n */ b", "a b");
        check(r#"f("unsafe \" unsafe", x)"#, "f( , x)");
        check("f(r#\"unsafe \" unsafe\"#, x)", "f( , x)");
        check("f(b\"unsafe\", br\"unsafe\", x)", "f(b , , x)");
        check(r"let c = '\''; let d = '/'; x", "let c = ; let d = ; x");
        check("fn f<'a>(x: &'a str) { '\"' }", "fn f<'a>(x: &'a str) { }");
        check("let r#type = var;", "let r#type = var;");
    }

    #[test]
    fn words_are_found_whole() {
        let code = "unsafe {}\nunsafe_code\n  not_unsafe\npub unsafe fn";
        assert_eq!(lines_with(code, "unsafe"), [1, 4]);
    }
}
