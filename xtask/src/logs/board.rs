//! Logs on a board, fetched and followed over one SSH connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};

use super::decode::{Printer, Style};
use super::elf::build_id_in_name;
use super::programs::Programs;
use crate::ssh::Host;

/// Where the service keeps its log, unless its configuration says otherwise.
pub const FOLDER: &str = "/var/lib/spinesight/log";

/// Sends what is new in the log files, oldest first: a line with a file's name and the number of
/// bytes, then the bytes. For any POSIX shell, also a board's small one.
const SCRIPT: &str = r#"
cd "$1" || exit
current= at=0
while :; do
    for file in *.defmt; do
        test -f "$file" || continue
        test "$file" \< "$current" && continue
        test "$file" = "$current" || { current=$file; at=0; }
        size=$(($(wc -c < "$file")))
        test "$size" -gt "$at" || continue
        echo "$file $((size - at))"
        tail -c "+$((at + 1))" "$file" | head -c "$((size - at))"
        at=$size
    done
    test "$2" = follow || break
    sleep 1
done
"#;

/// Prints a board's log, and with `follow` what it writes from then on.
///
/// # Errors
/// When the board does not answer, has no log, its program is not here, or the output does not take
/// a line.
pub fn print(
    host: &Host,
    folder: &str,
    programs: &Programs,
    style: Style,
    follow: bool,
    out: &mut impl Write,
) -> Result<()> {
    // Whether it answers, in plain words.
    host.ask("cd \"$1\"", &[folder]).with_context(|| format!("cannot read the log in {folder}"))?;
    let how = if follow { "follow" } else { "once" };
    let mut command = host.command(SCRIPT, &[folder, how]);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot start ssh")?;
    let sent = child.stdout.take().context("ssh's output is not connected")?;
    let printed = received(&mut BufReader::new(sent), host, programs, style, out);
    if printed.is_err() {
        // It would go on sending.
        child.kill().context("cannot stop ssh")?;
    }
    let status = child.wait().context("cannot wait for ssh")?;
    let files = printed?;
    ensure!(status.success(), "the log of {host} is not fetched to its end ({status})");
    ensure!(files > 0, "there is no log in {folder} at {host}: has the service run?");
    Ok(())
}

/// Prints what the script sends; how many pieces it sent.
fn received(
    sent: &mut impl BufRead,
    host: &Host,
    programs: &Programs,
    style: Style,
    out: &mut impl Write,
) -> Result<usize> {
    let mut current: Option<(String, Printer<'_>)> = None;
    let mut pieces = 0;
    while let Some((file, length)) = next(sent)? {
        pieces += 1;
        if current.as_ref().is_none_or(|(name, _)| *name != file) {
            let name = format!("{file} at {host}");
            let build = build_id_in_name(Path::new(&file));
            // The old one tells its damage first.
            drop(current.take());
            let printer = Printer::new(programs, name, build, style)?;
            current = Some((file, printer));
        }
        let Some((_, printer)) = &mut current else { continue };
        let mut bytes = sent.take(length);
        let mut part = [0; 4096];
        while bytes.limit() > 0 {
            let got = bytes.read(&mut part).context("the connection broke")?;
            ensure!(got > 0, "the connection broke in the middle of a file");
            printer.take(&part[..got], out)?;
        }
    }
    Ok(pieces)
}

/// A piece's file and length; none at the end.
fn next(sent: &mut impl BufRead) -> Result<Option<(String, u64)>> {
    let mut line = Vec::new();
    // Longer than any file's name: a piece that is out of step has no line's end for long.
    sent.take(512).read_until(b'\n', &mut line).context("the connection broke")?;
    if line.is_empty() {
        return Ok(None);
    }
    let words = std::str::from_utf8(&line).ok().and_then(|line| line.trim_end().split_once(' '));
    match words.map(|(file, length)| (file, length.parse())) {
        Some((file, Ok(length))) => Ok(Some((file.to_owned(), length))),
        _ => bail!("a log file changed while it was sent: try again"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::ssh::fake;

    /// What the script sends of a folder with these files.
    fn sent(files: &[(&str, &[u8])]) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(folder.path().join(name), content).unwrap();
        }
        let host = fake::host(folder.path(), fake::RUN);
        let folder = folder.path().to_str().unwrap();
        host.command(SCRIPT, &[folder, "once"]).output().unwrap().stdout
    }

    #[test]
    fn files_come_in_order_with_their_bytes() {
        let files: [(&str, &[u8]); 4] = [
            ("00000002-ab.defmt", b"\0\n\0"),
            ("00000001-ab.defmt", b"\x01 2"),
            ("00000003-ab.defmt", b""),
            ("notes.txt", b"none"),
        ];
        let expected = b"00000001-ab.defmt 3\n\x01 200000002-ab.defmt 3\n\0\n\0";
        assert_eq!(sent(&files), expected);
        assert_eq!(sent(&[]), b"");
    }

    #[test]
    fn a_piece_is_named_and_measured() {
        let mut bytes: &[u8] = b"00000001-ab.defmt 3\nabc";
        assert_eq!(next(&mut bytes).unwrap(), Some(("00000001-ab.defmt".into(), 3)));
        assert_eq!(bytes, b"abc");
        let error = next(&mut bytes).unwrap_err().to_string();
        assert!(error.contains("try again"), "{error}");
        assert_eq!(next(&mut bytes).unwrap(), None);
    }

    #[test]
    fn a_board_without_a_log_is_told_from_one_that_is_off() {
        let folder = tempfile::tempdir().unwrap();
        let programs = Programs::named(Path::new("no-such-program"));
        let message = |host: &Host, logs: &str| {
            let printed = print(host, logs, &programs, Style::Text, false, &mut Vec::new());
            format!("{:#}", printed.unwrap_err())
        };
        let host = fake::host(folder.path(), fake::RUN);
        let error = message(&host, folder.path().to_str().unwrap());
        assert!(error.starts_with("there is no log in"), "{error}");
        let error = message(&host, "/no/such/folder");
        assert!(error.starts_with("cannot read the log in /no/such/folder"), "{error}");
        let off = fake::host(folder.path(), "echo 'no route to host' >&2; exit 255");
        let error = message(&off, "/");
        assert!(error.contains("no board answers at root@board: no route to host"), "{error}");
    }
}
