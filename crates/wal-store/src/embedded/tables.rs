//! The tables, their names and types. Stored, keep stable.

use redb::TableDefinition;

use super::keys::PLACE_LEN;

/// The layout of these tables. Stored, keep stable.
///
/// 1: no `by_finished`, and state rows without namespace and tenant. 2: as it is here. See [`super::upgrade`].
pub(super) const FORMAT: u32 = 2;

pub(super) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
/// In [`META`]: the layout, 4 bytes big-endian.
pub(super) const META_FORMAT: &str = "format";
/// In [`META`]: the store's id, 16 bytes.
pub(super) const META_STORE_ID: &str = "store_id";

/// Place (written at, key) to document without standing. Never rewritten. By time, because keys are random: entries that are written
/// together lie together, so a commit touches few pages, and a scan reads on where it is.
pub(super) const CONTENT: TableDefinition<'_, &[u8; PLACE_LEN], &[u8]> = TableDefinition::new("content");
/// Key to [`super::rows::StateRow`]: small, so that an apply does not rewrite payloads.
pub(super) const STATES: TableDefinition<'_, u128, &[u8]> = TableDefinition::new("states");

/// An index: keys as [`super::keys`] makes them, nothing beside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Index {
    Namespace,
    Tenant,
    Correlation,
    Status,
    Request,
    /// Unfinished entries only.
    Deadline,
    /// Finished entries only, by the time of their standing event.
    Finished,
}

impl Index {
    pub(super) const ALL: [Index; 7] = [
        Index::Namespace,
        Index::Tenant,
        Index::Correlation,
        Index::Status,
        Index::Request,
        Index::Deadline,
        Index::Finished,
    ];

    pub(super) fn table(self) -> TableDefinition<'static, &'static [u8], ()> {
        TableDefinition::new(match self {
            Index::Namespace => "by_namespace",
            Index::Tenant => "by_tenant",
            Index::Correlation => "by_correlation",
            Index::Status => "by_status",
            Index::Request => "by_request",
            Index::Deadline => "by_deadline",
            Index::Finished => "by_finished",
        })
    }
}
