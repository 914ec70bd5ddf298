//! The rule about board files: each is right, and carries bundles that exist.

use super::layout::ZOO;
use super::tree::Tree;
use crate::board::Board;

const FOLDER: &str = "xtask/boards/";

/// Board files with a mistake, and bundles they name that are not in the repository.
pub fn wrong_boards(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in tree.texts() {
        let Some(name) = path.strip_prefix(FOLDER) else { continue };
        let Some(name) = name.strip_suffix(".toml") else {
            found.push(format!("{path}: only board files, NAME.toml, belong here"));
            continue;
        };
        match Board::parse(name, text) {
            Ok(board) => found.extend(missing_bundles(tree, path, &board)),
            Err(error) => found.push(format!("{path}: {error:#}")),
        }
    }
    found
}

fn missing_bundles(tree: &Tree, path: &str, board: &Board) -> Vec<String> {
    let is_missing = |bundle: &&String| tree.file(&format!("{ZOO}{bundle}/bundle.toml")).is_none();
    let missing = board.bundles.iter().filter(is_missing);
    missing.map(|bundle| format!("{path}: there is no bundle {ZOO}{bundle}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOARD: &str = include_str!("../../boards/rpi5.toml");
    const CARDS: [(&str, &str); 2] = [
        ("models/zoo/resnet50-finetuned-int8/bundle.toml", ""),
        ("models/zoo/vgg16-gap-random-int8/bundle.toml", ""),
    ];

    #[track_caller]
    fn check(path: &str, text: &str, expected: &[&str]) {
        let found = wrong_boards(&Tree::of(&[CARDS[0], CARDS[1], (path, text)]));
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{found}");
        }
    }

    #[test]
    fn a_board_file_is_right_and_its_bundles_exist() {
        check("xtask/boards/a.toml", BOARD, &[]);
        let odd = BOARD.replace("cores = 4", "cores = \"4\"");
        check("xtask/boards/a.toml", &odd, &["xtask/boards/a.toml: board file a.toml is wrong"]);
        let other = BOARD.replace("vgg16-gap-random", "vgg19");
        let expected = "xtask/boards/a.toml: there is no bundle models/zoo/vgg19-int8";
        check("xtask/boards/a.toml", &other, &[expected]);
    }

    #[test]
    fn nothing_else_lies_among_them() {
        check("xtask/boards/a.yaml", "", &["only board files"]);
        check("xtask/board.toml", "", &[]);
    }
}
