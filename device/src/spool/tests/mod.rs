//! The spool's behaviour, and what it survives.

mod behaviour;
mod kill;
mod power;
mod recovery;
mod untold;
mod world;
