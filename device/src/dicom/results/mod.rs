//! Result objects of a judged scan.
