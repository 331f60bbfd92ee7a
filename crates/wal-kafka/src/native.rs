//! The nine places where rdkafka's safe interface is not enough, each wrapped so that the rest stays safe.
//!
//! 1. `commit_transaction` of rdkafka 0.39 flushes in slices of 100 ms, so that a commit costs about 101 ms whatever its size. The
//!    native call flushes by itself and takes 3 to 4 ms. (`BaseProducer::poll` keeps polling until its timeout has passed.)
//! 2. The safe group metadata hides generation and member id, and a commit without them is not fenced by the broker.
//! 3. `send_offsets_to_transaction` takes the metadata of point 2.
//! 4. `Headers::get` panics on a header name that is not UTF-8, which any client may send.
//! 5. The end of a partition is told without its offset, and that is the only way past the marks that transactions leave behind the
//!    last record: a place before them is lost as soon as retention takes them.
//! 6. Where a partition ended in the broker's last answer is not told at all.
//! 7. The safe interface does not say whether a record whose delivery failed may have been written all the same.
//! 8. A client of questions alone is polled by nobody, so why it cannot reach a broker is told to nobody.
//! 9. A cluster may tell of no broker for a moment. librdkafka 2.12 then throws away all that it knows of, and its own way back to the
//!    bootstrap servers may be cut off by the very answer that makes it necessary, for ever (its issue 5301).

#![expect(unsafe_code, reason = "calls into librdkafka, each with its proof")]

use std::ffi::{CStr, CString};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::client::{Client, ClientContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka_sys as sys;

/// How often it is looked whether a client has lost its cluster, as long as it has not ...
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// ... and at least, when it has: what is added to a client stays in its memory.
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_secs(60);

/// What a transactional call answered, with the flags that decide what may be done next.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message} ({code:?})")]
pub struct TransactionError {
    /// librdkafka's code.
    pub code: RDKafkaErrorCode,
    /// Its words.
    pub message: String,
    /// The client instance is of no more use.
    pub is_fatal: bool,
    /// The transaction must be aborted; the client instance may go on.
    pub requires_abort: bool,
}

/// Takes ownership of what a transactional call returned.
fn outcome(error: *mut sys::rd_kafka_error_t) -> Result<(), TransactionError> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: `error` came from librdkafka just now, is not null, and is destroyed once, after the last use. The string lives as
    // long as the error and is copied before.
    unsafe {
        let taken = TransactionError {
            code: sys::rd_kafka_error_code(error).into(),
            message: CStr::from_ptr(sys::rd_kafka_error_string(error)).to_string_lossy().into_owned(),
            is_fatal: sys::rd_kafka_error_is_fatal(error) != 0,
            requires_abort: sys::rd_kafka_error_txn_requires_abort(error) != 0,
        };
        sys::rd_kafka_error_destroy(error);
        Err(taken)
    }
}

fn millis(timeout: Duration) -> i32 {
    i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX)
}

/// Who this member is in its group, at one moment. Taken when a batch starts, so that the broker can refuse what a zombie commits.
#[derive(Clone)]
pub struct GroupMetadata(Arc<OwnedMetadata>);

struct OwnedMetadata(NonNull<sys::rd_kafka_consumer_group_metadata_t>);

// SAFETY: the object is a plain copy of strings and numbers, and librdkafka only reads it.
unsafe impl Send for OwnedMetadata {}
// SAFETY: as above.
unsafe impl Sync for OwnedMetadata {}

impl GroupMetadata {
    /// The metadata as it is now; `None` unless this client is a member of a generation, since a commit without them is not fenced.
    pub fn take<C: ClientContext>(client: &Client<C>) -> Option<GroupMetadata> {
        // SAFETY: the client lives for the call; the returned object is ours to destroy, which Drop does.
        let metadata = NonNull::new(unsafe { sys::rd_kafka_consumer_group_metadata(client.native_ptr()) })?;
        let metadata = OwnedMetadata(metadata);
        // SAFETY: the object is alive; the member id is a string that lives as long as it.
        let (generation, member) = unsafe {
            let generation = sys::rd_kafka_consumer_group_metadata_generation_id(metadata.0.as_ptr());
            let member = sys::rd_kafka_consumer_group_metadata_member_id(metadata.0.as_ptr());
            (generation, member)
        };
        // SAFETY: checked for null first; librdkafka terminates the string.
        let has_member = !member.is_null() && !unsafe { CStr::from_ptr(member) }.is_empty();
        (generation >= 0 && has_member).then(|| GroupMetadata(Arc::new(metadata)))
    }
}

impl Drop for OwnedMetadata {
    fn drop(&mut self) {
        // SAFETY: made by librdkafka, destroyed once.
        unsafe { sys::rd_kafka_consumer_group_metadata_destroy(self.0.as_ptr()) }
    }
}

/// Adds consumed offsets to the open transaction. May not return for a very long time, whatever
/// `timeout` says (librdkafka issues 5456, 5511): nothing that must go on may wait for it.
pub fn send_offsets<C: ClientContext>(
    producer: &Client<C>,
    offsets: &TopicPartitionList,
    metadata: &GroupMetadata,
    timeout: Duration,
) -> Result<(), TransactionError> {
    // SAFETY: all three live for the call, and librdkafka only reads list and metadata.
    outcome(unsafe {
        sys::rd_kafka_send_offsets_to_transaction(
            producer.native_ptr(),
            offsets.ptr(),
            metadata.0.0.as_ptr(),
            millis(timeout),
        )
    })
}

/// Flushes and commits the open transaction. Needs a producer whose delivery reports are served by another thread.
pub fn commit<C: ClientContext>(producer: &Client<C>, timeout: Duration) -> Result<(), TransactionError> {
    // SAFETY: the producer lives for the call.
    outcome(unsafe { sys::rd_kafka_commit_transaction(producer.native_ptr(), millis(timeout)) })
}

/// Purges what is in flight and aborts the open transaction.
pub fn abort<C: ClientContext>(producer: &Client<C>, timeout: Duration) -> Result<(), TransactionError> {
    // SAFETY: the producer lives for the call.
    outcome(unsafe { sys::rd_kafka_abort_transaction(producer.native_ptr(), millis(timeout)) })
}

/// The way back to the cluster for a client that does not know of any broker any more. Kept beside the client and looked at whenever that
/// is used: most of the time there is nothing to do.
#[derive(Debug)]
pub struct WayBack {
    every: Duration,
    next: Mutex<Next>,
}

/// When it is looked at next.
#[derive(Debug)]
struct Next {
    at: Instant,
    wait: Duration,
}

impl Default for WayBack {
    fn default() -> WayBack {
        WayBack::looked_at(LOOK_EVERY)
    }
}

impl WayBack {
    fn looked_at(every: Duration) -> WayBack {
        WayBack { every, next: Mutex::new(Next { at: Instant::now() + every, wait: every }) }
    }

    /// Sends the client to its bootstrap servers if the last answer told it of no broker.
    pub fn look<C: ClientContext>(&self, client: &Client<C>) {
        let mut next = self.next.lock().expect("nothing panics while it is held");
        let now = Instant::now();
        if now < next.at {
            return;
        }
        // SAFETY: the client lives for the call, which only reads what the last answer said.
        let controller = unsafe { sys::rd_kafka_controllerid(client.native_ptr(), 0) };
        // An answer that names brokers names one of them here.
        if controller < 0 {
            bootstrap_again(client);
            next.wait = (next.wait * 2).min(LOOK_AT_LEAST_EVERY);
        } else {
            next.wait = self.every;
        }
        next.at = now + next.wait;
    }
}

/// Harmless for a client that has asked nothing yet, or finds back by itself: servers that it has are not added.
fn bootstrap_again<C: ClientContext>(client: &Client<C>) {
    let (name, mut length) = (c"bootstrap.servers".as_ptr(), 0);
    // SAFETY: the client lives for the calls, its configuration as long as the client. The first call tells only how long the text is,
    // its zero included, the second writes it to where there is room for so much, and the last copies it.
    unsafe {
        let config = sys::rd_kafka_conf(client.native_ptr());
        let found = sys::rd_kafka_conf_get(config, name, ptr::null_mut(), &raw mut length);
        if found != sys::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK {
            return;
        }
        let mut servers = vec![0_u8; length];
        sys::rd_kafka_conf_get(config, name, servers.as_mut_ptr().cast(), &raw mut length);
        sys::rd_kafka_brokers_add(client.native_ptr(), servers.as_ptr().cast());
    }
}

/// What a client that nobody polls has met since it was asked last: the newest of its errors, in librdkafka's words, such as a name that
/// leads nowhere or a certificate that is not trusted.
pub fn last_error<C: ClientContext>(client: &Client<C>) -> Option<String> {
    // SAFETY: the client lives for the call; the reference that is returned is ours, and given back below.
    let queue = NonNull::new(unsafe { sys::rd_kafka_queue_get_main(client.native_ptr()) })?;
    let mut last = None;
    // SAFETY: the queue is ours until it is given back; each event is ours and destroyed once, after its words are copied.
    unsafe {
        while let Some(event) = NonNull::new(sys::rd_kafka_queue_poll(queue.as_ptr(), 0)) {
            let code = RDKafkaErrorCode::from(sys::rd_kafka_event_error(event.as_ptr()));
            let words = sys::rd_kafka_event_error_string(event.as_ptr());
            // That all are down says less than why the last of them is.
            if code != RDKafkaErrorCode::NoError && code != RDKafkaErrorCode::AllBrokersDown && !words.is_null() {
                last = Some(CStr::from_ptr(words).to_string_lossy().trim().to_owned());
            }
            sys::rd_kafka_event_destroy(event.as_ptr());
        }
        sys::rd_kafka_queue_destroy(queue.as_ptr());
    }
    last
}

/// A partition's own queue. It keeps nothing alive: whoever holds it holds the consumer too.
pub struct Queue(NonNull<sys::rd_kafka_queue_t>);

// SAFETY: librdkafka's queues may be used from any thread; ours is used by one at a time.
unsafe impl Send for Queue {}

/// What a partition's queue gives.
pub enum Polled<'q> {
    /// Nothing at the moment.
    Nothing,
    /// A record.
    Record(Record<'q>),
    /// Everything before this offset has been given, marks of transactions included.
    End(i64),
    /// Reading failed.
    Error(RDKafkaErrorCode),
}

/// A record that librdkafka still owns the bytes of.
pub struct Record<'q> {
    message: NonNull<sys::rd_kafka_message_t>,
    queue: PhantomData<&'q Queue>,
}

impl Queue {
    /// Another handle on the queue of a partition that is assigned and split off.
    pub fn of<C: ClientContext>(client: &Client<C>, topic: &str, partition: i32) -> Option<Queue> {
        let topic = CString::new(topic).ok()?;
        // SAFETY: client and name live for the call; the reference that is returned is ours to destroy, which Drop does.
        NonNull::new(unsafe { sys::rd_kafka_queue_get_partition(client.native_ptr(), topic.as_ptr(), partition) })
            .map(Queue)
    }

    /// What is there now. Does not wait.
    pub fn poll(&self) -> Polled<'_> {
        // SAFETY: the queue is alive; the message that is returned is ours to destroy, which Record does.
        let message = NonNull::new(unsafe { sys::rd_kafka_consume_queue(self.0.as_ptr(), 0) });
        let Some(message) = message else { return Polled::Nothing };
        let record = Record { message, queue: PhantomData };
        // SAFETY: the message is alive.
        let error = unsafe { message.as_ref() }.err;
        match error {
            sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Polled::Record(record),
            sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__PARTITION_EOF => Polled::End(record.offset()),
            error => Polled::Error(error.into()),
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: got from librdkafka, destroyed once.
        unsafe { sys::rd_kafka_queue_destroy(self.0.as_ptr()) }
    }
}

impl Record<'_> {
    /// Its offset.
    pub fn offset(&self) -> i64 {
        self.view().offset()
    }

    /// What it says.
    pub fn view(&self) -> View<'_> {
        View { message: self.message, owner: PhantomData }
    }
}

/// What a record says, whoever owns it.
#[derive(Clone, Copy)]
pub struct View<'m> {
    message: NonNull<sys::rd_kafka_message_t>,
    owner: PhantomData<&'m ()>,
}

impl<'m> View<'m> {
    /// What a record says that the safe interface gave.
    pub fn of(message: &'m BorrowedMessage<'_>) -> View<'m> {
        View { message: NonNull::new(message.ptr()).expect("rdkafka makes no message of null"), owner: PhantomData }
    }

    fn message(self) -> &'m sys::rd_kafka_message_t {
        // SAFETY: whoever gave the view has the message for `'m`, and librdkafka does not change it.
        unsafe { self.message.as_ref() }
    }

    /// Its partition.
    pub fn partition(self) -> i32 {
        self.message().partition
    }

    /// Its offset.
    pub fn offset(self) -> i64 {
        self.message().offset
    }

    /// Milliseconds since the epoch; `None` where the broker keeps no time.
    pub fn timestamp(self) -> Option<i64> {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is alive, and `kind` for the call.
        let millis = unsafe { sys::rd_kafka_message_timestamp(self.message.as_ptr(), &raw mut kind) };
        (kind != sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE).then_some(millis)
    }

    /// Its key; `None` is Kafka's null.
    pub fn key(self) -> Option<&'m [u8]> {
        // SAFETY: a key that is not null has `key_len` bytes and lives as long as the message.
        unsafe { bytes(self.message().key.cast(), self.message().key_len) }
    }

    /// Its value; `None` is Kafka's null.
    pub fn value(self) -> Option<&'m [u8]> {
        // SAFETY: a value that is not null has `len` bytes and lives as long as the message.
        unsafe { bytes(self.message().payload.cast(), self.message().len) }
    }

    /// Calls `each` with name and value of every header, in order. Names are whatever bytes the sender chose.
    pub fn for_each_header(self, each: impl FnMut(&'m [u8], Option<&'m [u8]>)) {
        // SAFETY: the message is alive for as long as what is given to `each`.
        unsafe { headers(self.message.as_ptr(), each) }
    }
}

/// Whether a record whose delivery failed is certainly not on its topic.
pub fn is_certainly_unwritten(message: &BorrowedMessage<'_>) -> bool {
    // SAFETY: the message is alive.
    let status = unsafe { sys::rd_kafka_message_status(message.ptr()) };
    status == sys::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_NOT_PERSISTED
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        // SAFETY: ours, destroyed once.
        unsafe { sys::rd_kafka_message_destroy(self.message.as_ptr()) }
    }
}

/// Calls `each` with name and value of every header of a borrowed message, in order.
pub fn for_each_header<'m>(message: &'m BorrowedMessage<'_>, each: impl FnMut(&'m [u8], Option<&'m [u8]>)) {
    // SAFETY: the message is alive for as long as what is given to `each`.
    unsafe { headers(message.ptr(), each) }
}

/// Where an assigned partition ended when it was last read from; `None` before that. Does not ask.
pub fn last_end<C: ClientContext>(client: &Client<C>, topic: &str, partition: i32) -> Option<i64> {
    let topic = CString::new(topic).ok()?;
    let (mut low, mut high) = (-1, -1);
    // SAFETY: client and name live for the call, and the numbers are written during it.
    let told = unsafe {
        sys::rd_kafka_get_watermark_offsets(client.native_ptr(), topic.as_ptr(), partition, &raw mut low, &raw mut high)
    };
    let is_told = told == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
    (is_told && high >= 0).then_some(high)
}

/// # Safety
/// `start` is null or has `length` bytes that live for `'m`.
unsafe fn bytes<'m>(start: *const u8, length: usize) -> Option<&'m [u8]> {
    // SAFETY: the caller's word.
    (!start.is_null()).then(|| unsafe { std::slice::from_raw_parts(start, length) })
}

/// Calls `each` with name and value of every header, in order.
///
/// # Safety
/// The message lives for `'m`.
unsafe fn headers<'m>(message: *const sys::rd_kafka_message_t, mut each: impl FnMut(&'m [u8], Option<&'m [u8]>)) {
    let mut headers: *mut sys::rd_kafka_headers_t = ptr::null_mut();
    // SAFETY: the message is alive; on success `headers` points into it.
    let found = unsafe { sys::rd_kafka_message_headers(message, &raw mut headers) };
    if found != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return;
    }
    for index in 0.. {
        let mut name = ptr::null();
        let mut value = ptr::null();
        let mut length = 0;
        // SAFETY: `headers` is alive as long as the message; an index past the end is answered with an error.
        let found =
            unsafe { sys::rd_kafka_header_get_all(headers, index, &raw mut name, &raw mut value, &raw mut length) };
        if found != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return;
        }
        // SAFETY: librdkafka terminates names; a value that is not null has `length` bytes. Both live as long as the message.
        let (name, value) = unsafe { (CStr::from_ptr(name).to_bytes(), bytes(value.cast(), length)) };
        each(name, value);
    }
}

#[cfg(test)]
mod tests;
