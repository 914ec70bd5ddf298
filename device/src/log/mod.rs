//! The log: compact defmt frames, never patient data.
