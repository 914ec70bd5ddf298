//! The page that the board serves.
