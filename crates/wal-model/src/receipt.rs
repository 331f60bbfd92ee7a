//! Receipts: the answer to a write.

use std::borrow::Cow;

use bytes::Bytes;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::code::{Code, Refusal};
use crate::id::LogId;
use crate::name::{Id, Topic};
use crate::record::{Header, OutRecord};
use crate::request::ReplyTo;
use crate::wire::{self, ReceiptJson};

/// The answer to a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// The entry is in the store, synced.
    Stored {
        /// Its name.
        log_id: LogId,
        /// Where it is delivered.
        target: Topic,
        /// The caller's word for the request.
        request_id: Option<Id>,
    },
    /// Every entry of the batch is in the store, synced.
    BatchStored {
        /// Their names, in the order of the batch.
        log_ids: Vec<LogId>,
        /// The caller's word for the request.
        request_id: Option<Id>,
    },
    /// Nothing was stored.
    Refused {
        /// The stable code, as it is spelled; a newer writer may send one that this reader does not know.
        error_code: String,
        /// What is wrong.
        error: String,
        /// Whether the same request may succeed later.
        is_retryable: bool,
        /// The caller's word for the request.
        request_id: Option<Id>,
    },
}

/// Why a record is no receipt.
#[derive(Debug, thiserror::Error)]
pub enum NotAReceipt {
    /// It is not the JSON of a receipt.
    #[error("not the JSON of a receipt: {0}")]
    Json(#[from] serde_json::Error),
    /// It lacks a field or has one that makes no sense.
    #[error("field {0} is missing or makes no sense")]
    Field(&'static str),
}

impl Receipt {
    /// The receipt of a refused request.
    pub fn refused(refusal: &Refusal, request_id: Option<Id>) -> Receipt {
        Receipt::Refused {
            error_code: refusal.code.as_str().to_owned(),
            error: refusal.message.clone(),
            is_retryable: refusal.code.is_retryable(),
            request_id,
        }
    }

    /// The caller's word for the request.
    pub fn request_id(&self) -> Option<&Id> {
        match self {
            Receipt::Stored { request_id, .. }
            | Receipt::BatchStored { request_id, .. }
            | Receipt::Refused { request_id, .. } => request_id.as_ref(),
        }
    }

    /// The code of a refusal, if it is one of ours.
    pub fn code(&self) -> Option<Code> {
        match self {
            Receipt::Refused { error_code, .. } => Code::parse(error_code),
            Receipt::Stored { .. } | Receipt::BatchStored { .. } => None,
        }
    }

    /// The JSON of the receipt.
    pub fn to_json(&self) -> Vec<u8> {
        let json = match self {
            Receipt::Stored { log_id, target, request_id } => ReceiptJson {
                success: true,
                log_id: Some(log_id.to_string()),
                durable: Some(true),
                timestamp: Some(log_id.timestamp().to_string()),
                namespace: Some(log_id.namespace().as_str().into()),
                target: Some(target.as_str().into()),
                request_id: borrowed(request_id.as_ref()),
                ..ReceiptJson::default()
            },
            Receipt::BatchStored { log_ids, request_id } => ReceiptJson {
                success: true,
                log_ids: Some(log_ids.iter().map(LogId::to_string).collect()),
                durable: Some(true),
                request_id: borrowed(request_id.as_ref()),
                ..ReceiptJson::default()
            },
            Receipt::Refused { error_code, error, is_retryable, request_id } => ReceiptJson {
                success: false,
                error: Some(error.into()),
                error_code: Some(error_code.into()),
                retryable: Some(*is_retryable),
                request_id: borrowed(request_id.as_ref()),
                ..ReceiptJson::default()
            },
        };
        serde_json::to_vec(&json).expect("a receipt holds only text, numbers and lists of text")
    }

    /// Reads the JSON of a receipt. Fields it does not know are a newer writer's, and skipped.
    pub fn from_json(json: &[u8]) -> Result<Receipt, NotAReceipt> {
        let json: ReceiptJson<'_> = serde_json::from_slice(json)?;
        let request_id = match json.request_id.as_deref() {
            Some(text) => Some(Id::parse(text).map_err(|_| NotAReceipt::Field("request_id"))?),
            None => None,
        };
        let log_id = |text: &String| text.parse::<LogId>();
        if !json.success {
            return Ok(Receipt::Refused {
                error_code: json.error_code.ok_or(NotAReceipt::Field("error_code"))?.into_owned(),
                error: json.error.unwrap_or_default().into_owned(),
                is_retryable: json.retryable.unwrap_or(false),
                request_id,
            });
        }
        if let Some(log_ids) = &json.log_ids {
            let log_ids = log_ids.iter().map(log_id).collect::<Result<_, _>>();
            return Ok(Receipt::BatchStored {
                log_ids: log_ids.map_err(|_| NotAReceipt::Field("log_ids"))?,
                request_id,
            });
        }
        let text = json.log_id.as_ref().ok_or(NotAReceipt::Field("log_id"))?;
        let target = json.target.as_deref().ok_or(NotAReceipt::Field("target"))?;
        Ok(Receipt::Stored {
            log_id: log_id(text).map_err(|_| NotAReceipt::Field("log_id"))?,
            target: Topic::parse(target).map_err(|_| NotAReceipt::Field("target"))?,
            request_id,
        })
    }

    /// The record that carries the receipt to `topic`. `id` is the same every time the same request is answered.
    pub fn encode(&self, id: Uuid, at: Timestamp, topic: Topic, reply: &ReplyTo) -> OutRecord {
        let mut headers = vec![
            Header::new(wire::CE_SPECVERSION, wire::SPEC_VERSION),
            Header::new(wire::CE_ID, id.to_string()),
            Header::new(wire::CE_SOURCE, "wal/receipts"),
            Header::new(wire::CE_TYPE, wire::TYPE_RECEIPT),
            Header::new(wire::CE_TIME, at.to_string()),
            Header::new(wire::CONTENT_TYPE, wire::JSON),
        ];
        if let Some(correlation) = &reply.correlation {
            headers.push(Header::new(wire::REPLY_CORRELATION, correlation.clone()));
        }
        let key = self.request_id().map_or_else(|| id.to_string(), Id::to_string);
        OutRecord {
            topic,
            partition: reply.partition,
            key: Some(Bytes::from(key)),
            value: Some(Bytes::from(self.to_json())),
            headers,
        }
    }
}

fn borrowed(id: Option<&Id>) -> Option<Cow<'_, str>> {
    id.map(|id| Cow::Borrowed(id.as_str()))
}
