//! A value that is exchanged while others work with it: whoever takes it keeps what they took until they take it again.

use std::sync::{Arc, PoisonError, RwLock};

/// The value. Cloning is cheap, and all clones see the same exchange.
#[derive(Debug)]
pub struct Live<T>(Arc<RwLock<Arc<T>>>);

impl<T> Live<T> {
    /// The first value.
    pub fn new(value: T) -> Live<T> {
        Live(Arc::new(RwLock::new(Arc::new(value))))
    }

    /// The value of this moment. Take it once per decision, or two halves of one may follow different values.
    pub fn get(&self) -> Arc<T> {
        // Whoever panics while they hold the lock has exchanged one whole value for another, or not yet.
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Exchanges it for whoever takes it from now on.
    pub fn set(&self, value: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
    }
}

impl<T> Clone for Live<T> {
    fn clone(&self) -> Live<T> {
        Live(Arc::clone(&self.0))
    }
}
