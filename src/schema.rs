//! The JSON Schemas of what other programs read of us and write for us.
//!
//! They are derived from the types that do the reading and writing. The copies in `schemas/` are compared with these by
//! a test; draft-07 is what the editors' TOML servers understand.

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::Value;

use crate::convert::ConvertRecord;
use crate::finding::FindingsDocument;
use crate::inventory::InventoryDocument;
use crate::load::LoadDocument;
use crate::manifest::Manifest;
use crate::moe::MoeReport;
use crate::plan::diff::PlanDiff;
use crate::plan::record::PlanRecord;
use crate::policy;
use crate::policy::draw::Drawing;
use crate::quantize::run::DriftReport;
use crate::sample::SampleReport;
use crate::stage::StageRecord;

/// A schema and its name.
#[derive(Debug)]
pub struct SchemaDocument {
    /// What `flow-fabric schema NAME` calls it; the file is `schemas/NAME.schema.json`.
    pub name: &'static str,
    /// What it describes, for a list.
    pub about: &'static str,
    build: fn(SchemaGenerator) -> Schema,
}

/// Every schema, by name.
pub static ALL: &[SchemaDocument] = &[
    SchemaDocument {
        name: "convert",
        about: "what a conversion wrote, as `convert --format json` prints it",
        build: root::<ConvertRecord>,
    },
    SchemaDocument {
        name: "diff",
        about: "what differs between two plans, as `diff --format json` prints it",
        build: root::<PlanDiff>,
    },
    SchemaDocument {
        name: "drift",
        about: "a drift report, as `quantize`, `drift` and `dequantize` with `--format json` print it",
        build: root::<DriftReport>,
    },
    SchemaDocument {
        name: "findings",
        about: "findings, as `--format json` prints them",
        build: root::<FindingsDocument>,
    },
    SchemaDocument {
        name: "inventory",
        about: "a checkpoint, as `inspect --format json` prints it",
        build: root::<InventoryDocument>,
    },
    SchemaDocument {
        name: "graph",
        about: "a matcher graph, as `graph --format json` prints it",
        build: root::<Drawing>,
    },
    SchemaDocument {
        name: "load",
        about: "what one device loads, as `load --format json` prints it",
        build: root::<LoadDocument>,
    },
    SchemaDocument {
        name: "moe",
        about: "a reference layer and a comparison, as `moe --format json` prints them",
        build: root::<MoeReport>,
    },
    SchemaDocument {
        name: "manifest",
        about: "the digests of a checkpoint, as `manifest` writes them beside it",
        build: root::<Manifest>,
    },
    SchemaDocument {
        name: "plan",
        about: "a resolved plan, as `plan --format json` prints it",
        build: root::<PlanRecord>,
    },
    SchemaDocument {
        name: "sample",
        about: "tokens drawn from logits, as `sample --format json` prints them",
        build: root::<SampleReport>,
    },
    SchemaDocument { name: "policy", about: "a policy file", build: policy::schema::schema },
    SchemaDocument {
        name: "stage",
        about: "a staged copy, as `stage` writes it into the copy",
        build: root::<StageRecord>,
    },
];

/// Finds a schema.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static SchemaDocument> {
    ALL.iter().find(|document| document.name == name)
}

impl SchemaDocument {
    /// The schema itself.
    #[must_use]
    pub fn schema(&self) -> Schema {
        (self.build)(SchemaSettings::draft07().with_transform(RecursiveTransform(without_examples)).into_generator())
    }

    /// The text of its file, ending with a newline.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{:#}\n", self.schema().to_value())
    }
}

/// Descriptions come from Rust documentation; its examples are of no use to who writes TOML or reads JSON.
fn without_examples(schema: &mut Schema) {
    if let Some(Value::String(description)) = schema.get_mut("description")
        && let Some(at) = description.find("\n\n```")
    {
        description.truncate(at);
    }
}

fn root<T: JsonSchema>(generator: SchemaGenerator) -> Schema {
    generator.into_root_schema_for::<T>()
}
