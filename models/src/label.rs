//! The classes a model tells apart, in the one order that logits, files and reports share.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Number of classes.
pub const COUNT: usize = Class::ALL.len();

/// A finding on a spine X-ray.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// No finding among those the model knows.
    Normal,
    /// Lateral curvature of the spine.
    Scoliosis,
    /// Forward slip of one vertebra over the next.
    Spondylolisthesis,
}

impl Class {
    /// All classes; a class's position here is its index in every logit vector.
    pub const ALL: [Class; 3] = [Class::Normal, Class::Scoliosis, Class::Spondylolisthesis];

    /// Position in [`Class::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// Lower-case name, as files and reports spell it.
    pub fn name(self) -> &'static str {
        match self {
            Class::Normal => "normal",
            Class::Scoliosis => "scoliosis",
            Class::Spondylolisthesis => "spondylolisthesis",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A class name that is none of [`Class::ALL`].
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no class: expected normal, scoliosis or spondylolisthesis")]
pub struct UnknownClass(String);

impl FromStr for Class {
    type Err = UnknownClass;

    fn from_str(name: &str) -> Result<Class, UnknownClass> {
        Class::ALL.into_iter().find(|c| c.name() == name).ok_or_else(|| UnknownClass(name.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_and_name_round_trip() {
        for (i, class) in Class::ALL.into_iter().enumerate() {
            assert_eq!(class.index(), i);
            assert_eq!(class.name().parse::<Class>().ok(), Some(class));
        }
        assert!("Normal".parse::<Class>().is_err());
    }
}
