//! The two places where rdkafka's safe interface is not enough, each wrapped so that the rest stays safe.
//!
//! 1. `Headers::get` panics on a header name that is not UTF-8, which any client may send.
//! 2. The safe interface does not say whether a record whose delivery failed may have been written all the same.

#![expect(unsafe_code, reason = "calls into librdkafka, each with its proof")]

use std::ffi::CStr;
use std::ptr;

use bytes::Bytes;
use rdkafka::message::BorrowedMessage;
use rdkafka_sys as sys;
use wal_model::Header;

/// Copies the headers of a message, in order. Names are whatever bytes the sender chose.
pub(crate) fn headers(message: &BorrowedMessage<'_>) -> Vec<Header> {
    let mut all = Vec::new();
    let mut headers: *mut sys::rd_kafka_headers_t = ptr::null_mut();
    // SAFETY: the message is alive; on success `headers` points into it.
    let found = unsafe { sys::rd_kafka_message_headers(message.ptr(), &raw mut headers) };
    if found != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return all;
    }
    for index in 0.. {
        let mut name = ptr::null();
        let mut value = ptr::null();
        let mut length = 0;
        // SAFETY: `headers` is alive as long as the message; an index past the end is answered with an error.
        let found =
            unsafe { sys::rd_kafka_header_get_all(headers, index, &raw mut name, &raw mut value, &raw mut length) };
        if found != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            break;
        }
        // SAFETY: librdkafka terminates names; a value that is not null has `length` bytes. Both live as long as the message, and
        // are copied here.
        let header = unsafe {
            Header {
                name: Bytes::copy_from_slice(CStr::from_ptr(name).to_bytes()),
                value: (!value.is_null())
                    .then(|| Bytes::copy_from_slice(std::slice::from_raw_parts(value.cast::<u8>(), length))),
            }
        };
        all.push(header);
    }
    all
}

/// Whether a record whose delivery failed is certainly not on its topic.
pub(crate) fn is_certainly_unwritten(message: &BorrowedMessage<'_>) -> bool {
    // SAFETY: the message is alive.
    let status = unsafe { sys::rd_kafka_message_status(message.ptr()) };
    status == sys::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_NOT_PERSISTED
}
