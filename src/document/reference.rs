//! Texts that name something defined elsewhere in the file. The reader notes where each was used, so that one that
//! names nothing is reported at its place.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! reference {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize, JsonSchema)]
        pub struct $type(pub String);

        impl $type {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&self.0)
            }
        }

        impl std::ops::Deref for $type {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }
    };
}

reference!(
    /// The name of a connection under `postgres:`
    ConnectionName
);
reference!(
    /// The name of a job under `jobs:`
    JobRef
);
reference!(
    /// The name of a contact under `contacts:`
    ContactName
);

/// What a reference names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Connection,
    Job,
    Contact,
}

impl Target {
    /// By the name of the Rust type, as serde passes it.
    pub(super) fn of_type(name: &str) -> Option<Self> {
        match name {
            "ConnectionName" => Some(Self::Connection),
            "JobRef" => Some(Self::Job),
            "ContactName" => Some(Self::Contact),
            _ => None,
        }
    }
}
