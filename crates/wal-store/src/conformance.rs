//! The conformance suite: one function per promise of [`EntryStore`], for every backend and every decorator.
//!
//! ```text
//! wal_store::conformance_tests!(make_store().await);   // an expression that makes a `Subject` of an empty store
//! ```

mod inserts;
mod purge;
mod queries;
mod states;

use std::sync::Arc;

use async_trait::async_trait;
use wal_model::Entry;

pub use self::inserts::*;
pub use self::purge::*;
pub use self::queries::*;
pub use self::states::*;
use crate::{EntryStore, Inserted};

/// An empty store to be tested, and whatever keeps it alive.
#[async_trait]
pub trait Subject: Send {
    /// The store.
    fn store(&self) -> Arc<dyn EntryStore>;

    /// Closes the store and opens it again. Nobody else holds it meanwhile.
    async fn reopen(&mut self);
}

/// Whether every entry was stored anew.
fn are_all_stored(answers: &[Inserted]) -> bool {
    answers.iter().all(|answer| *answer == Inserted::Stored)
}

/// Stores entries that must not be there.
async fn store_all(store: &dyn EntryStore, entries: &[Entry]) {
    let answers = store.insert(entries).await.expect("the store is available");
    assert!(are_all_stored(&answers), "{answers:?}");
}

/// Makes one `#[tokio::test]` of each promise. The argument is an expression, awaited where it likes, that makes a [`Subject`].
#[macro_export]
macro_rules! conformance_tests {
    ($subject:expr) => {
        $crate::conformance_tests!(@each $subject;
            what_is_stored_is_there_as_it_was,
            bytes_that_are_no_text_come_back_identical,
            an_entry_that_was_there_is_present_and_unchanged,
            present_is_answered_with_the_state_of_now,
            of_one_key_in_one_call_the_first_is_stored,
            of_concurrent_inserts_of_one_key_exactly_one_stores,
            answers_stand_in_the_order_of_the_entries,
            nothing_is_inserted_for_no_entries,
            unknown_keys_are_none,
            gets_answer_in_order_and_repeat_repeats,
            a_namespace_is_read_in_order_and_alone,
            ranges_include_from_and_exclude_to,
            ranges_without_time_in_them_are_empty,
            pages_put_together_are_the_whole,
            a_page_ends_exactly_where_there_is_no_more,
            places_that_were_no_answer_are_places_too,
            entries_of_one_time_are_paged_by_key,
            a_tenant_sees_its_own_entries_only,
            names_that_begin_alike_are_not_mixed_up,
            correlated_entries_are_found_across_namespaces,
            a_request_is_found_under_its_tenant_only,
            a_status_is_left_when_another_is_reached,
            an_apply_leaves_the_content_alone,
            events_join_late_and_in_any_order,
            an_event_twice_changes_nothing,
            an_unknown_key_is_unknown_and_harms_nobody,
            an_event_of_another_log_id_or_tenant_is_not_folded,
            several_events_of_one_key_are_all_folded,
            concurrent_applies_lose_no_event,
            expired_entries_come_by_deadline,
            expired_pages_put_together_are_the_whole,
            finished_entries_do_not_expire,
            a_redriven_entry_expires_by_its_new_deadline,
            finished_entries_come_by_the_time_they_finished,
            finished_pages_put_together_are_the_whole,
            what_is_unfinished_is_never_among_the_finished,
            a_finish_that_a_greater_event_moves_is_found_at_its_new_time,
            a_removed_entry_is_in_no_answer_and_its_key_is_free,
            what_is_unfinished_or_finished_later_is_not_removed,
            removing_again_removes_nothing,
        );

        #[tokio::test(flavor = "multi_thread")]
        async fn everything_is_there_after_a_reopening() {
            let mut subject = $subject;
            $crate::conformance::everything_is_there_after_a_reopening(&mut subject).await;
        }
    };
    (@each $subject:expr; $($promise:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $promise() {
                let subject = $subject;
                let store = $crate::conformance::Subject::store(&subject);
                $crate::conformance::$promise(&*store).await;
            }
        )+
    };
}
