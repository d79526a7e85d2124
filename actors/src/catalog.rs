//! The catalog: every gear and endpoint that a scenario may name, with manifest and builder, in one visible value.
//! It knows no file format: a gear is built from any deserializer.

use std::sync::Arc;

use schemars::{JsonSchema, Schema, schema_for};
use serde::de::DeserializeOwned;

use crate::endpoint::{Endpoint, TypedEndpoint};
use crate::gear::{Gear, Typed};
use crate::plan::{Role, nearest};
use crate::port::Ports;

/// What kind of work a gear does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Category {
    /// Meets the outside world.
    Io,
    /// Translates between bytes and fields.
    Codec,
    /// Decides and changes.
    Logic,
    /// Shows what passes.
    Observability,
}

/// How much a gear may be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maturity {
    /// Its configuration and meaning stay.
    Stable,
    /// They may still change.
    Preview,
}

/// What a catalog says about one gear type beside its configuration.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// Kind of work.
    pub category: Category,
    /// How much it may be relied on.
    pub maturity: Maturity,
}

/// Everything known about one gear type.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// Name of the type.
    pub type_name: &'static str,
    /// Kind of work and maturity.
    pub about: About,
    /// JSON Schema of its configuration, made of the struct and its doc comments.
    pub schema: Schema,
}

impl Manifest {
    /// The manual text: the doc comment of the configuration struct.
    #[must_use]
    pub fn doc(&self) -> &str {
        self.schema.get("description").and_then(|doc| doc.as_str()).unwrap_or_default()
    }
}

/// A gear or endpoint that was built from its configuration.
pub struct Built(pub(crate) Role);

impl Built {
    /// Its ports, which may depend on its configuration.
    #[must_use]
    pub fn ports(&self) -> Ports {
        match &self.0 {
            Role::Gear(gear) => gear.ports(),
            Role::Endpoint(endpoint) => endpoint.ports(),
        }
    }
}

type Build = Arc<dyn Fn(&mut dyn erased_serde::Deserializer<'_>) -> Result<Built, erased_serde::Error> + Send + Sync>;

/// Why a gear cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// No such type.
    #[error("gear type `{found}`: found none of this name, expected one of the catalog; remedy: {remedy}")]
    Unknown {
        /// What was asked for.
        found: String,
        /// The nearest name, or how to add one.
        remedy: String,
    },
    /// Its configuration is not what its struct says.
    #[error("gear type `{type_name}`: {source}{}", remedy_of(source))]
    Config {
        /// The type.
        type_name: &'static str,
        /// What is wrong.
        source: erased_serde::Error,
    },
}

/// A remedy for errors that bring none of their own.
fn remedy_of(source: &erased_serde::Error) -> &'static str {
    if source.to_string().contains("remedy: ") { "" } else { "; remedy: see the gear's schema" }
}

/// Gear types by name, in the order in which the manual lists them.
#[derive(Clone, Default)]
pub struct Catalog {
    entries: Vec<(Manifest, Build)>,
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.entries.iter().map(|(manifest, _)| manifest.type_name)).finish()
    }
}

impl Catalog {
    /// No gears.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a pure gear.
    ///
    /// # Panics
    /// When there is one of this name: two meanings of one type are a mistake of whoever puts the catalog together.
    #[must_use]
    pub fn with<G: Gear + DeserializeOwned + JsonSchema>(self, about: About) -> Self {
        self.add(G::TYPE, about, schema_for!(G), |config| {
            let gear: G = erased_serde::deserialize(config)?;
            Ok(Built(Role::Gear(Arc::new(Typed(Arc::new(gear))))))
        })
    }

    /// Adds an endpoint.
    ///
    /// # Panics
    /// As for `with`.
    #[must_use]
    pub fn with_endpoint<E: Endpoint + DeserializeOwned + JsonSchema>(self, about: About) -> Self {
        self.add(E::TYPE, about, schema_for!(E), |config| {
            let endpoint: E = erased_serde::deserialize(config)?;
            Ok(Built(Role::Endpoint(Arc::new(TypedEndpoint(Arc::new(endpoint))))))
        })
    }

    fn add(
        mut self,
        type_name: &'static str,
        about: About,
        schema: Schema,
        build: impl Fn(&mut dyn erased_serde::Deserializer<'_>) -> Result<Built, erased_serde::Error>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        assert!(self.manifest(type_name).is_none(), "gear type `{type_name}` is in the catalog twice");
        self.entries.push((Manifest { type_name, about, schema }, Arc::new(build)));
        self
    }

    /// Every manifest, in order.
    pub fn manifests(&self) -> impl Iterator<Item = &Manifest> {
        self.entries.iter().map(|(manifest, _)| manifest)
    }

    /// The manifest of one type.
    #[must_use]
    pub fn manifest(&self, type_name: &str) -> Option<&Manifest> {
        self.manifests().find(|manifest| manifest.type_name == type_name)
    }

    /// Builds a gear of a type from its configuration.
    ///
    /// # Errors
    /// When there is no such type, or its configuration is wrong.
    pub fn build<'de>(&self, type_name: &str, config: impl serde::Deserializer<'de>) -> Result<Built, CatalogError> {
        let Some((manifest, build)) = self.entries.iter().find(|(manifest, _)| manifest.type_name == type_name) else {
            let names = self.manifests().map(|manifest| manifest.type_name);
            let remedy = nearest(type_name, names).map_or_else(
                || "add yours with `Catalog::with`".to_owned(),
                |name| format!("use `{name}`, or add yours with `Catalog::with`"),
            );
            return Err(CatalogError::Unknown { found: type_name.to_owned(), remedy });
        };
        let mut config = <dyn erased_serde::Deserializer<'_>>::erase(config);
        build(&mut config).map_err(|source| CatalogError::Config { type_name: manifest.type_name, source })
    }
}

#[cfg(test)]
mod tests;
