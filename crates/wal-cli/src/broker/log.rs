//! The records and the committed offsets, in one SQLite file. Batches are kept as they came: what a consumer reads is
//! byte for byte what the producer sent. One call, one SQLite transaction: a commit is in the log whole or not at all.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
};

use bytes::Bytes;
use libsql::{Connection, TransactionBehavior, params};
use tansu_sans_io::{ErrorCode, record::deflated::Batch};
use uuid::Uuid;

use super::{
    batch::{Place, Stamp, Write, seal, sequence_after, size},
    transactions::{Position, Producer},
};

/// Stored, keep stable: a change needs a new file name or a migration.
const TABLES: &str = "
    create table if not exists head (
        id integer primary key,
        topic text not null,
        partition integer not null,
        low integer not null,
        high integer not null,
        unique (topic, partition));
    create table if not exists batch (
        head integer not null,
        base_offset integer not null,
        last_offset integer not null,
        max_timestamp integer not null,
        producer_id integer,
        producer_epoch integer,
        base_sequence integer,
        last_sequence integer,
        bytes blob not null,
        unique (head, base_offset));
    create index if not exists batch_producer on batch (head, producer_id, base_offset) where producer_id is not null;
    create table if not exists position (
        name text not null,
        topic text not null,
        partition integer not null,
        committed integer not null,
        leader_epoch integer not null,
        metadata text,
        primary key (name, topic, partition)) without rowid;
    create table if not exists producer (id integer primary key autoincrement);
    create table if not exists transactional (
        name text primary key,
        producer integer not null,
        epoch integer not null) without rowid;";

/// Process death keeps every commit, power loss may cost the last ones: enough for a broker that lives in `wal dev`.
const MODE: &str = "pragma journal_mode = wal; pragma synchronous = normal;";

/// Kafka remembers the last five batches of a producer: librdkafka and Java have no more than five in flight.
const REMEMBERED_BATCHES: i64 = 5;

/// First and next offset of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    id: i64,
    pub(super) low: i64,
    pub(super) high: i64,
}

/// What a fetch found in one partition.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) head: Head,
    pub(super) batches: Vec<Batch>,
    pub(super) bytes: usize,
}

/// What went in, or that it had gone in before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Appended {
    pub(super) base_offset: i64,
    pub(super) low: i64,
}

/// The file. It has one owner, the ledger's thread.
pub(super) struct Log {
    connection: Connection,
    heads: HashMap<Place, Head>,
}

impl Log {
    pub(super) async fn open(path: &Path) -> Result<Self, libsql::Error> {
        let connection = libsql::Builder::new_local(path).build().await?.connect()?;
        connection.execute_batch(MODE).await?;
        connection.execute_batch(TABLES).await?;
        let mut heads = HashMap::new();
        let mut rows = connection.query("select id, topic, partition, low, high from head", ()).await?;
        while let Some(row) = rows.next().await? {
            let place = Place { topic: topic_id(&row.get::<String>(1)?), partition: row.get(2)? };
            let head = Head { id: row.get(0)?, low: row.get(3)?, high: row.get(4)? };
            heads.insert(place, head);
        }
        Ok(Self { connection, heads })
    }

    pub(super) fn head(&self, place: Place) -> Head {
        self.heads.get(&place).copied().unwrap_or_default()
    }

    /// A batch of an idempotent producer that is already in the log, or why it cannot follow what is there.
    pub(super) async fn find_sent(
        &self,
        place: Place,
        batch: &Batch,
    ) -> Result<Result<Option<Appended>, ErrorCode>, libsql::Error> {
        let head = self.head(place);
        let mut rows = self
            .connection
            .query(
                "select producer_epoch, base_sequence, last_sequence, base_offset from batch
                 where head = ? and producer_id = ? order by base_offset desc limit ?",
                params![head.id, batch.producer_id, REMEMBERED_BATCHES],
            )
            .await?;
        let mut newest = None;
        while let Some(row) = rows.next().await? {
            let epoch: i32 = row.get(0)?;
            let base_sequence: i32 = row.get(1)?;
            let last_sequence: i32 = row.get(2)?;
            if epoch > i32::from(batch.producer_epoch) {
                return Ok(Err(ErrorCode::InvalidProducerEpoch));
            }
            if epoch < i32::from(batch.producer_epoch) {
                break;
            }
            if base_sequence == batch.base_sequence {
                let base_offset = row.get(3)?;
                let low = head.low;
                return Ok(Ok(Some(Appended { base_offset, low })));
            }
            newest.get_or_insert(last_sequence);
        }
        let Some(newest) = newest else {
            return Ok(Ok(None));
        };
        let ahead = batch.base_sequence.wrapping_sub(sequence_after(newest, 1)) & i32::MAX;
        Ok(match ahead {
            0 => Ok(None),
            past if past > i32::MAX / 2 => Err(ErrorCode::DuplicateSequenceNumber),
            _ => Err(ErrorCode::OutOfOrderSequenceNumber),
        })
    }

    /// Writes batches and positions, all or nothing, and answers with where each batch went.
    pub(super) async fn append(
        &mut self,
        writes: Vec<Write>,
        positions: &BTreeMap<(String, Place), Position>,
        now: i64,
    ) -> Result<Vec<Appended>, libsql::Error> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).await?;
        // The heads in memory move only after the commit.
        let mut moved: HashMap<Place, Head> = HashMap::new();
        let mut appended = Vec::with_capacity(writes.len());
        for write in writes {
            let place = write.place;
            let known = moved.get(&place).or_else(|| self.heads.get(&place));
            let mut head = match known {
                Some(head) => *head,
                None => new_head(&transaction, place).await?,
            };
            let base_offset = head.high;
            insert_batch(&transaction, write, head, now).await.map(|next| head.high = next)?;
            let low = head.low;
            appended.push(Appended { base_offset, low });
            moved.insert(place, head);
        }
        for head in moved.values() {
            transaction.execute("update head set high = ? where id = ?", params![head.high, head.id]).await?;
        }
        for ((group, place), position) in positions {
            put_position(&transaction, group, *place, position).await?;
        }
        transaction.commit().await?;
        self.heads.extend(moved);
        Ok(appended)
    }

    /// Batches from the one that holds `offset` on: at least one if there is any, more while they fit `max_bytes`.
    pub(super) async fn read(
        &self,
        place: Place,
        offset: i64,
        max_bytes: usize,
    ) -> Result<Result<Found, ErrorCode>, libsql::Error> {
        let head = self.head(place);
        let mut found = Found { head, ..Found::default() };
        if offset < head.low || offset > head.high {
            return Ok(Err(ErrorCode::OffsetOutOfRange));
        }
        if offset == head.high {
            return Ok(Ok(found));
        }
        let mut rows = self
            .connection
            .query(
                "select bytes from batch where head = ?1 and base_offset >= coalesce(
                     (select max(base_offset) from batch where head = ?1 and base_offset <= ?2), ?2)
                 order by base_offset",
                params![head.id, offset],
            )
            .await?;
        while let Some(row) = rows.next().await? {
            let Ok(batch) = Batch::try_from(Bytes::from(row.get::<Vec<u8>>(0)?)) else {
                return Ok(Err(ErrorCode::KafkaStorageError));
            };
            let bytes = size(&batch);
            if !found.batches.is_empty() && found.bytes + bytes > max_bytes {
                break;
            }
            found.bytes += bytes;
            found.batches.push(batch);
        }
        Ok(Ok(found))
    }

    /// The first batch with a record not older than `timestamp`: its offset and greatest timestamp.
    pub(super) async fn find_time(&self, place: Place, timestamp: i64) -> Result<Option<Batch>, libsql::Error> {
        let mut rows = self
            .connection
            .query(
                "select bytes from batch where head = ? and max_timestamp >= ? order by base_offset limit 1",
                params![self.head(place).id, timestamp],
            )
            .await?;
        let Some(row) = rows.next().await? else {
            return Ok(None);
        };
        Ok(Batch::try_from(Bytes::from(row.get::<Vec<u8>>(0)?)).ok())
    }

    pub(super) async fn positions(&self, group: &str) -> Result<BTreeMap<Place, Position>, libsql::Error> {
        let mut rows = self
            .connection
            .query(
                "select topic, partition, committed, leader_epoch, metadata from position where name = ?",
                params![group],
            )
            .await?;
        let mut positions = BTreeMap::new();
        while let Some(row) = rows.next().await? {
            let place = Place { topic: topic_id(&row.get::<String>(0)?), partition: row.get(1)? };
            let position = Position { offset: row.get(2)?, leader_epoch: row.get(3)?, metadata: row.get(4)? };
            positions.insert(place, position);
        }
        Ok(positions)
    }

    /// Groups that committed offsets.
    pub(super) async fn groups(&self) -> Result<BTreeSet<String>, libsql::Error> {
        let mut rows = self.connection.query("select distinct name from position", ()).await?;
        let mut groups = BTreeSet::new();
        while let Some(row) = rows.next().await? {
            groups.insert(row.get(0)?);
        }
        Ok(groups)
    }

    /// Answers with how many offsets there were.
    pub(super) async fn forget_group(&self, group: &str) -> Result<u64, libsql::Error> {
        self.connection.execute("delete from position where name = ?", params![group]).await
    }

    /// A producer id nobody had before; for a transactional id the next epoch of its own.
    pub(super) async fn new_producer(&self, name: Option<&str>) -> Result<Producer, libsql::Error> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).await?;
        let former = match name {
            Some(name) => former_producer(&transaction, name).await?,
            None => None,
        };
        let producer = match former {
            Some(former) if former.epoch < i16::MAX - 1 => Producer { epoch: former.epoch + 1, ..former },
            Some(_) | None => {
                transaction.execute("insert into producer default values", ()).await?;
                Producer { id: transaction.last_insert_rowid(), epoch: 0 }
            }
        };
        if let Some(name) = name {
            transaction
                .execute(
                    "insert into transactional (name, producer, epoch) values (?, ?, ?) on conflict (name)
                     do update set producer = excluded.producer, epoch = excluded.epoch",
                    params![name, producer.id, i64::from(producer.epoch)],
                )
                .await?;
        }
        transaction.commit().await?;
        Ok(producer)
    }

    /// Deletes batches of a topic older than `cutoff` (milliseconds since 1970), as `retention.ms` asks.
    pub(super) async fn expire(&mut self, topic: Uuid, cutoff: i64) -> Result<(), libsql::Error> {
        let places: Vec<Place> = self.heads.keys().filter(|place| place.topic == topic).copied().collect();
        for place in places {
            let mut head = self.head(place);
            let mut rows = self
                .connection
                .query(
                    "select min(base_offset) from batch where head = ? and max_timestamp >= ?",
                    params![head.id, cutoff],
                )
                .await?;
            let kept: Option<i64> = match rows.next().await? {
                Some(row) => row.get(0)?,
                None => None,
            };
            drop(rows);
            let low = kept.unwrap_or(head.high);
            if low <= head.low {
                continue;
            }
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).await?;
            transaction.execute("delete from batch where head = ? and base_offset < ?", params![head.id, low]).await?;
            transaction.execute("update head set low = ? where id = ?", params![low, head.id]).await?;
            transaction.commit().await?;
            head.low = low;
            self.heads.insert(place, head);
        }
        Ok(())
    }

    /// Deletes everything of topics that are no more.
    pub(super) async fn keep_only(&mut self, topics: &[Uuid]) -> Result<(), libsql::Error> {
        let gone: Vec<(Place, Head)> = self
            .heads
            .iter()
            .filter(|(place, _)| !topics.contains(&place.topic))
            .map(|(place, head)| (*place, *head))
            .collect();
        for (place, head) in gone {
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).await?;
            transaction.execute("delete from batch where head = ?", params![head.id]).await?;
            transaction.execute("delete from head where id = ?", params![head.id]).await?;
            transaction.execute("delete from position where topic = ?", params![place.topic.to_string()]).await?;
            transaction.commit().await?;
            self.heads.remove(&place);
        }
        Ok(())
    }
}

async fn new_head(transaction: &Connection, place: Place) -> Result<Head, libsql::Error> {
    transaction
        .execute(
            "insert into head (topic, partition, low, high) values (?, ?, 0, 0)",
            params![place.topic.to_string(), place.partition],
        )
        .await?;
    Ok(Head { id: transaction.last_insert_rowid(), low: 0, high: 0 })
}

/// Answers with the offset after the batch.
async fn insert_batch(transaction: &Connection, write: Write, head: Head, now: i64) -> Result<i64, libsql::Error> {
    let Write { stamp, batch, .. } = write;
    let base_offset = head.high;
    let last_offset = base_offset + i64::from(batch.last_offset_delta);
    let max_timestamp = match stamp {
        Stamp::Producer => batch.max_timestamp,
        Stamp::Broker => now,
    };
    // Transactional producers are checked in memory: what they aborted never came here, so their sequences have gaps.
    let producer = (batch.is_idempotent() && !batch.is_transactional()).then_some(batch.producer_id);
    let epoch = i64::from(batch.producer_epoch);
    let base_sequence = i64::from(batch.base_sequence);
    let last_sequence = i64::from(sequence_after(batch.base_sequence, batch.record_count.saturating_sub(1)));
    let bytes = seal(batch, stamp, base_offset, now);
    transaction
        .execute(
            "insert into batch values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                head.id,
                base_offset,
                last_offset,
                max_timestamp,
                producer,
                epoch,
                base_sequence,
                last_sequence,
                bytes.to_vec()
            ],
        )
        .await?;
    Ok(last_offset + 1)
}

async fn put_position(
    transaction: &Connection,
    group: &str,
    place: Place,
    position: &Position,
) -> Result<(), libsql::Error> {
    transaction
        .execute(
            "insert into position values (?, ?, ?, ?, ?, ?) on conflict (name, topic, partition) do update set
             committed = excluded.committed, leader_epoch = excluded.leader_epoch, metadata = excluded.metadata",
            params![
                group,
                place.topic.to_string(),
                place.partition,
                position.offset,
                position.leader_epoch,
                position.metadata.clone()
            ],
        )
        .await?;
    Ok(())
}

async fn former_producer(transaction: &Connection, name: &str) -> Result<Option<Producer>, libsql::Error> {
    let mut rows = transaction.query("select producer, epoch from transactional where name = ?", params![name]).await?;
    let Some(row) = rows.next().await? else {
        return Ok(None);
    };
    Ok(Some(Producer { id: row.get(0)?, epoch: i16::try_from(row.get::<i32>(1)?).unwrap_or(i16::MAX) }))
}

/// A row with a foreign text belongs to no topic and is removed with the topics that are no more.
fn topic_id(text: &str) -> Uuid {
    Uuid::parse_str(text).unwrap_or(Uuid::nil())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::batch::check;

    const PLACE: Place = Place { topic: Uuid::from_u128(7), partition: 3 };

    /// Two records of an idempotent producer.
    fn batch(base_sequence: i32) -> Batch {
        let batch = Batch {
            magic: 2,
            batch_length: 53,
            record_count: 2,
            last_offset_delta: 1,
            base_timestamp: 1_000,
            max_timestamp: 1_001,
            producer_id: 5,
            producer_epoch: 0,
            base_sequence,
            record_data: Bytes::from_static(b"data"),
            ..Batch::default()
        };
        // Sealing with the broker's time also gives it a checksum.
        Batch::try_from(seal(batch, Stamp::Broker, 0, 1_001)).unwrap()
    }

    fn write(base_sequence: i32) -> Write {
        Write { place: PLACE, stamp: Stamp::Producer, batch: batch(base_sequence) }
    }

    fn positions(offset: i64) -> BTreeMap<(String, Place), Position> {
        let position = Position { offset, leader_epoch: 0, metadata: Some("store-1".to_owned()) };
        BTreeMap::from([(("group".to_owned(), PLACE), position)])
    }

    #[tokio::test]
    async fn what_was_appended_is_there_after_opening_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.db");
        let mut log = Log::open(&path).await.unwrap();
        log.append(vec![write(0), write(2)], &positions(9), 0).await.unwrap();
        drop(log);

        let log = Log::open(&path).await.unwrap();
        let found = log.read(PLACE, 3, usize::MAX).await.unwrap().unwrap();

        assert_eq!((found.head.low, found.head.high), (0, 4));
        assert_eq!(found.batches.len(), 1);
        assert_eq!(found.batches[0].base_offset, 2);
        assert_eq!(check(&found.batches[0], usize::MAX), Ok(()));
        let kept = log.positions("group").await.unwrap();
        assert_eq!(kept[&PLACE].metadata.as_deref(), Some("store-1"));
    }

    #[tokio::test]
    async fn a_batch_sent_again_is_found_and_a_gap_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::open(&folder.path().join("r")).await.unwrap();
        log.append(vec![write(0), write(2)], &BTreeMap::new(), 0).await.unwrap();

        let again = log.find_sent(PLACE, &batch(2)).await.unwrap().unwrap();
        let next = log.find_sent(PLACE, &batch(4)).await.unwrap().unwrap();
        let gap = log.find_sent(PLACE, &batch(6)).await.unwrap();

        assert_eq!(again.map(|sent| sent.base_offset), Some(2));
        assert!(next.is_none());
        assert!(matches!(gap, Err(ErrorCode::OutOfOrderSequenceNumber)));
    }

    #[tokio::test]
    async fn a_failed_append_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::open(&folder.path().join("r")).await.unwrap();
        log.connection.execute("drop table position", ()).await.unwrap();

        let failed = log.append(vec![write(0)], &positions(1), 0).await;

        assert!(failed.is_err());
        assert_eq!(log.head(PLACE).high, 0);
        let found = log.read(PLACE, 0, usize::MAX).await.unwrap().unwrap();
        assert!(found.batches.is_empty());
    }

    #[tokio::test]
    async fn old_batches_go_and_the_low_offset_moves() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::open(&folder.path().join("r")).await.unwrap();
        log.append(vec![write(0)], &BTreeMap::new(), 0).await.unwrap();

        log.expire(PLACE.topic, 1_000).await.unwrap();
        let kept = log.head(PLACE);
        log.expire(PLACE.topic, 2_000).await.unwrap();
        let gone = log.head(PLACE);

        assert_eq!((kept.low, kept.high), (0, 2));
        assert_eq!((gone.low, gone.high), (2, 2));
        let below = log.read(PLACE, 0, usize::MAX).await.unwrap();
        assert!(matches!(below, Err(ErrorCode::OffsetOutOfRange)));
    }

    #[tokio::test]
    async fn a_transactional_id_keeps_its_producer_and_gets_the_next_epoch() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::open(&folder.path().join("r")).await.unwrap();

        let first = log.new_producer(Some("t")).await.unwrap();
        let other = log.new_producer(None).await.unwrap();
        let second = log.new_producer(Some("t")).await.unwrap();

        assert_ne!(first.id, other.id);
        assert_eq!(first.id, second.id);
        assert_eq!(second.epoch, first.epoch + 1);
    }
}
