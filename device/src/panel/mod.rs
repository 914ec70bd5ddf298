//! The panel on a board or on a desk.
