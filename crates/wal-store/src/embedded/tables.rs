//! The tables, their names and types. Stored, keep stable.

use redb::TableDefinition;

use super::keys::PLACE_LEN;

/// The layout of these tables. Stored, keep stable.
///
/// 1 and 2: states under their keys alone, and in 1 no `by_finished`, see [`super::upgrade`]. 3: as it is here.
pub(super) const FORMAT: u32 = 3;

pub(super) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
/// In [`META`]: the layout, 4 bytes big-endian.
pub(super) const META_FORMAT: &str = "format";
/// In [`META`]: the store's id, 16 bytes.
pub(super) const META_STORE_ID: &str = "store_id";

/// Place (written at, key) to document without standing. Never rewritten. By time, because keys are random: entries that are written
/// together lie together, so a commit touches few pages, and a scan reads on where it is.
pub(super) const CONTENT: TableDefinition<'_, &[u8; PLACE_LEN], &[u8]> = TableDefinition::new("content");
/// Place to [`super::rows::StateRow`]: apart from the content, so that an apply does not rewrite payloads, and by time like it: what is
/// folded together was mostly written together.
pub(super) const STATES: TableDefinition<'_, &[u8; PLACE_LEN], &[u8]> = TableDefinition::new("states_by_place");
/// Key to when the entry was written, in milliseconds, so to its place. The only table that grows all over, a page for each entry of a
/// commit, so its rows are as small as they can be: what is rewritten all the time stays in memory.
pub(super) const WRITTEN: TableDefinition<'_, u128, i64> = TableDefinition::new("written_at");

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
