//! CustomResourceDefinitions
use schemars::{Schema, SchemaGenerator, json_schema};

/// x
pub(crate) fn plain_integer(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer"})
}
