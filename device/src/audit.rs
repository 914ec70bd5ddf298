//! The audit trail: who sent, what was decided, where it went, who acknowledged.
