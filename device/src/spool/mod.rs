//! The spool: every scan from its arrival to its last delivery, on disk before it is promised.
