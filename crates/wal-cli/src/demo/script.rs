//! What the demo does, as data: the specification's three examples, a repeat, a request with a typo, and the four ways in which it can
//! go wrong and be put right.

use wal_model::Code;

/// One thing that happens, and why it is worth showing.
pub struct Step {
    /// What happens.
    pub title: &'static str,
    /// What to look at.
    pub remark: &'static str,
    /// What is done and what must come of it.
    pub action: Action,
}

/// What is done and what must come of it.
pub enum Action {
    /// A request is sent; a receipt and a delivery must come, and the entry must live so.
    Write(Request, Life),
    /// The request of an earlier step is sent again, byte for byte; the same log id must come back, and no delivery.
    Repeat {
        /// The step, from 0.
        of: usize,
    },
    /// A request that must be refused with this code, and be kept among the dead letters.
    Refuse(Request, Code),
}

/// What becomes of an entry, as its consumer has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// The first attempt does it.
    Completes,
    /// So many attempts fail, and the next one does it.
    FailsAtFirst(u32),
    /// All attempts fail, until none is left.
    Exhausts,
    /// Its attempt fails, and somebody cancels it while the next one waits.
    IsCancelled,
    /// Nobody answers until it is too late.
    Expires,
}

impl Life {
    /// How it ends: status and reason.
    pub fn end(self) -> (&'static str, Option<&'static str>) {
        match self {
            Life::Completes | Life::FailsAtFirst(_) => ("completed", None),
            Life::Exhausts => ("failed", Some("exhausted")),
            Life::IsCancelled => ("failed", Some("cancelled")),
            Life::Expires => ("failed", Some("expired")),
        }
    }

    /// Whether it ends among the dead letters.
    pub fn is_buried(self) -> bool {
        match self {
            Life::Exhausts | Life::Expires => true,
            Life::Completes | Life::FailsAtFirst(_) | Life::IsCancelled => false,
        }
    }
}

/// A request as any Kafka client could send it.
#[derive(Clone, Copy)]
pub struct Request {
    /// What it does.
    pub operation: &'static str,
    /// Where it is delivered.
    pub target: &'static str,
    /// The record's key: requests with the same one keep their order.
    pub key: &'static str,
    /// The record's value.
    pub json: &'static str,
}

const SAGA: Request = Request {
    operation: "execute_saga",
    target: "saga_execution_queue",
    key: "saga_123",
    json: r#"{"namespace": "saga_execution", "target": "saga_execution_queue",
 "payload": {"saga_id": "saga_123", "operation": "execute_saga",
             "journey_id": "journey_456", "context": {"step": 1}},
 "lifecycle": {"retry_count": 3, "delay": 60, "backoff": "exponential"},
 "user_context": {"user_id": "ada", "tenant_id": "acme"},
 "idempotency_key": "saga_123/journey_456"}"#,
};

const MODEL: Request = Request {
    operation: "register_model",
    target: "canonical_model_registry",
    key: "policy_v1",
    json: r#"{"namespace": "canonical_model", "target": "canonical_model_registry",
 "payload": {"operation": "register_model", "model_name": "policy_v1",
             "version": "1.0.0", "schema": {"type": "object"}},
 "lifecycle": {"retry_count": 3},
 "user_context": {"user_id": "ada", "tenant_id": "acme"}}"#,
};

const ROUTING: Request = Request {
    operation: "evaluate_routing",
    target: "routing_evaluation_queue",
    key: "policy_123",
    json: r#"{"namespace": "routing_engine", "target": "routing_evaluation_queue",
 "payload": {"operation": "evaluate_routing", "policy_id": "policy_123",
             "routing_decision": "NewPlatformAPI"},
 "lifecycle": {"retry_count": 1},
 "user_context": {"user_id": "ada", "tenant_id": "acme"}}"#,
};

const TYPO: Request = Request {
    operation: "execute_saga",
    target: "saga_execution_queue",
    key: "saga_124",
    json: r#"{"namespace": "saga_execution", "target": "saga_execution_queue",
 "payload": {"saga_id": "saga_124", "operation": "execute_saga"},
 "lifecycle": {"retry_cout": 3}}"#,
};

const CHARGE: Request = Request {
    operation: "charge_card",
    target: "payment_queue",
    key: "order_7",
    json: r#"{"namespace": "payments", "target": "payment_queue",
 "payload": {"operation": "charge_card", "order_id": 7},
 "lifecycle": {"retry_count": 3, "delay": 0.3}}"#,
};

const REFUND: Request = Request {
    operation: "refund",
    target: "payment_queue",
    key: "order_8",
    json: r#"{"namespace": "payments", "target": "payment_queue",
 "payload": {"operation": "refund", "order_id": 8},
 "lifecycle": {"retry_count": 2, "delay": 0.3, "backoff": "fixed"}}"#,
};

const FEE: Request = Request {
    operation: "charge_late_fee",
    target: "payment_queue",
    key: "order_9",
    json: r#"{"namespace": "payments", "target": "payment_queue",
 "payload": {"operation": "charge_late_fee", "order_id": 9},
 "lifecycle": {"retry_count": 3, "delay": 1, "backoff": "fixed"}}"#,
};

const RESERVE: Request = Request {
    operation: "reserve_seat",
    target: "payment_queue",
    key: "order_10",
    json: r#"{"namespace": "payments", "target": "payment_queue",
 "payload": {"operation": "reserve_seat", "order_id": 10},
 "lifecycle": {"ttl": 1.5}}"#,
};

/// The targets of all requests.
pub const TARGETS: [&str; 4] = [SAGA.target, MODEL.target, ROUTING.target, CHARGE.target];

/// The steps, in order.
pub fn steps() -> Vec<Step> {
    vec![
        Step {
            title: "A saga is about to be executed",
            remark: "An ordinary producer sends plain JSON, an ordinary consumer reads the target.",
            action: Action::Write(SAGA, Life::Completes),
        },
        Step {
            title: "A canonical model is about to be registered",
            remark: "What the lifecycle leaves out, the policy says, such as 7 days to live.",
            action: Action::Write(MODEL, Life::Completes),
        },
        Step {
            title: "A routing decision is about to be made",
            remark: "Every namespace has its own target; one retry is enough for this one.",
            action: Action::Write(ROUTING, Life::Completes),
        },
        Step {
            title: "The saga's request once more",
            remark: "Its sender crashed before it saw the receipt, and sends the same bytes again.",
            action: Action::Repeat { of: 0 },
        },
        Step {
            title: "A request with a typo",
            remark: "`retry_cout`: refused by name before it does harm, and kept with the reason.",
            action: Action::Refuse(TYPO, Code::UnknownField),
        },
        Step {
            title: "A card that is declined twice",
            remark: "Its consumer says so, and it comes back exactly when its lifecycle says.",
            action: Action::Write(CHARGE, Life::FailsAtFirst(2)),
        },
        Step {
            title: "A refund that never works",
            remark: "Two retries are allowed; then it is among the dead letters, with its reason.",
            action: Action::Write(REFUND, Life::Exhausts),
        },
        Step {
            title: "A late fee that nobody wants any more",
            remark: "Its first attempt fails; while the next one waits, somebody cancels it.",
            action: Action::Write(FEE, Life::IsCancelled),
        },
        Step {
            title: "A reservation that nobody answers",
            remark: "It has 1.5 s to live and its consumer is asleep: it expires, on the record.",
            action: Action::Write(RESERVE, Life::Expires),
        },
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn requests_are_json_that_says_what_the_script_says() {
        for request in [SAGA, MODEL, ROUTING, TYPO, CHARGE, REFUND, FEE, RESERVE] {
            let json: Value = serde_json::from_str(request.json).unwrap();
            assert_eq!(json["target"], request.target);
            assert_eq!(json["payload"]["operation"], request.operation);
            assert!(request.json.lines().all(|line| line.len() <= 72), "too wide for a terminal: {}", request.json);
        }
    }

    #[test]
    fn remarks_fit_beside_the_number() {
        for step in steps() {
            assert!(step.remark.len() <= 77 && step.title.len() <= 77, "{}", step.remark);
        }
    }

    #[test]
    fn the_cancelled_one_would_have_come_back_before_the_demo_ends() {
        let life = |step: &Step| match step.action {
            Action::Write(_, life) => Some(life),
            Action::Repeat { .. } | Action::Refuse(..) => None,
        };
        let lives: Vec<_> = steps().iter().filter_map(life).collect();
        let cancelled = lives.iter().position(|life| *life == Life::IsCancelled).unwrap();
        assert!(lives[cancelled..].contains(&Life::Expires), "what takes longer than its delay");
        let millis = |request: Request, name: &str| {
            let json: Value = serde_json::from_str(request.json).unwrap();
            json["lifecycle"][name].as_f64().unwrap()
        };
        assert!(millis(FEE, "delay") < millis(RESERVE, "ttl"));
    }

    #[test]
    fn repeats_repeat_a_write_that_came_before() {
        let steps = steps();
        for (at, step) in steps.iter().enumerate() {
            if let Action::Repeat { of } = step.action {
                assert!(of < at && matches!(steps[of].action, Action::Write(..)));
            }
        }
    }
}
