//! The rule about documents: what they link to in the repository exists.

use std::collections::BTreeSet;

use super::tree::Tree;

/// Links in Markdown files to files, folders and headings that do not exist.
pub fn broken_links(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in tree.texts().filter(|(path, _)| is_document(path)) {
        for (line, target) in links(text) {
            if let Some(problem) = problem(tree, path, text, &target) {
                found.push(format!("{path}:{line}: {problem}"));
            }
        }
    }
    found
}

fn is_document(path: &str) -> bool {
    path.ends_with(".md")
}

/// What is wrong with a link, if anything. Pages elsewhere are not looked at.
fn problem(tree: &Tree, path: &str, text: &str, target: &str) -> Option<String> {
    if has_scheme(target) {
        return None;
    }
    let (file, heading) = target.split_once('#').map_or((target, None), |(f, h)| (f, Some(h)));
    if file.is_empty() {
        return missing_heading(text, heading?).map(|h| format!("has no heading for #{h}"));
    }
    let Some(linked) = resolved(path, file) else {
        return Some(format!("{target} is outside the repository"));
    };
    let folder = format!("{linked}/");
    let exists = |path: &str| path == linked || path.starts_with(&folder);
    if !tree.files.iter().any(|file| exists(&file.path)) {
        return Some(format!("there is no {linked}"));
    }
    let heading = heading.filter(|_| is_document(&linked))?;
    let text = tree.file(&linked)?.text.as_deref().unwrap_or_default();
    missing_heading(text, heading).map(|h| format!("{linked} has no heading for #{h}"))
}

/// `https:` and its like.
fn has_scheme(target: &str) -> bool {
    let scheme = target.split_once(':').map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| {
        !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    })
}

/// The path from the root of the clone of what a file links to; none outside the clone.
fn resolved(path: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => _ = parts.pop()?,
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

fn missing_heading<'h>(text: &str, heading: &'h str) -> Option<&'h str> {
    (!anchors(text).contains(heading)).then_some(heading)
}

/// Targets of all links with their lines, numbered from 1: `[text](target)`, `[name]: target`.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    // A link's text may go over several lines, its `](target)` never does.
    for (line, words) in prose(text) {
        let words = without_code(words);
        let mut targets: Vec<&str> =
            words.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0)).collect();
        targets.extend(definition(&words));
        // A title may stand behind the target, and angle brackets around it.
        let bare = |target: &str| {
            let first = target.split_whitespace().next().unwrap_or_default();
            first.trim_start_matches('<').trim_end_matches('>').to_owned()
        };
        found.extend(targets.into_iter().map(|target| (line, bare(target))));
    }
    found
}

/// The target of a line that defines a link for others.
fn definition(line: &str) -> Option<&str> {
    let (name, target) = line.trim_start().strip_prefix('[')?.split_once("]: ")?;
    (!name.starts_with('^') && !name.contains(']')).then_some(target)
}

/// Lines outside fenced code, numbered from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_code = false;
    let lines = text.lines().enumerate().map(|(i, line)| (i + 1, line));
    lines.filter(move |(_, line)| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// A line without its code spans.
fn without_code(line: &str) -> String {
    let parts: Vec<&str> = line.split('`').collect();
    // Without a partner, the last one is no span.
    let spans = (parts.len() - 1) / 2 * 2;
    let kept = parts.iter().enumerate().filter(|(i, _)| i % 2 == 0 || *i > spans);
    kept.map(|(_, part)| *part).collect()
}

/// What a document's headings are called in links.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (_, line) in prose(text) {
        let title = line.trim_start_matches('#');
        if title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let name = anchor(title.trim());
        // A heading that stands again gets a number.
        let same = (1..).map(|n| format!("{name}-{n}"));
        let free = std::iter::once(name.clone()).chain(same).find(|name| !found.contains(name));
        found.extend(free);
    }
    found
}

/// As GitHub makes it: small letters, digits, `-` and `_`; spaces become `-`.
fn anchor(title: &str) -> String {
    let kept = |c: char| match c {
        ' ' => Some('-'),
        '-' | '_' => Some(c),
        c => c.is_alphanumeric().then_some(c),
    };
    without_targets(title).to_lowercase().chars().filter_map(kept).collect()
}

/// A title without where its links go.
fn without_targets(title: &str) -> String {
    let mut parts = title.split("](");
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        kept.push_str(part.split_once(')').map_or(part, |(_, behind)| behind));
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Links in `doc/a.md`.
    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let tree = Tree::of(&[
            ("doc/a.md", text),
            ("doc/b.md", "# One: the *first*, `x`\n## Two\n## Two\n```\n# no heading\n```\n"),
            ("src/main.rs", "fn main() {}"),
        ]);
        assert_eq!(broken_links(&tree), expected, "{text}");
    }

    #[test]
    fn files_and_folders_must_exist() {
        check(
            "see [b](b.md), [main](../src/main.rs), [sources](../src) ![b](./b.md \"title\")",
            &[],
        );
        check("fine\n\n[c](c.md)", &["doc/a.md:3: there is no doc/c.md"]);
        check("[c](../c.md) [b](<b.md>)", &["doc/a.md:1: there is no c.md"]);
        check("[x](../../x)", &["doc/a.md:1: ../../x is outside the repository"]);
        check("[part of a name](../sr)", &["doc/a.md:1: there is no sr"]);
        check("[c]: c.md", &["doc/a.md:1: there is no doc/c.md"]);
    }

    #[test]
    fn headings_must_exist() {
        check("[1](b.md#one-the-first-x) [2](b.md#two) [3](b.md#two-1)", &[]);
        check("[4](b.md#two-2)", &["doc/a.md:1: doc/b.md has no heading for #two-2"]);
        check("[5](b.md#no-heading)", &["doc/a.md:1: doc/b.md has no heading for #no-heading"]);
        check("# Here [b](b.md)\n[up](#here-b)", &[]);
        check("# Here\n[up](#there)", &["doc/a.md:2: has no heading for #there"]);
        check("[line](../src/main.rs#L1)", &[]);
    }

    #[test]
    fn pages_elsewhere_and_code_are_left_alone() {
        check("[r](https://rustup.rs/x.md) <https://rustup.rs>", &[]);
        check("`[c](c.md)` and `a[0](x)`\n```sh\n[c](c.md)\n```\n", &[]);
        check("a lone ` and [c](c.md)", &["doc/a.md:1: there is no doc/c.md"]);
    }
}
