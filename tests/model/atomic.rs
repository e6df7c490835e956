//! `std::sync::atomic`, for files that use nothing but `SeqCst`: then all accesses are one sequence.
//! Loom takes `SeqCst` for `AcqRel`, but whatever reads and writes has its place in one sequence
//! with loom, too: so each access does both.

use loom::sync::atomic;
pub use loom::sync::atomic::Ordering;

macro_rules! atomic {
    ($name:ident, $value:ty) => {
        #[derive(Default)]
        pub struct $name(atomic::$name);

        impl $name {
            pub fn new(value: $value) -> $name {
                $name(atomic::$name::new(value))
            }

            pub fn load(&self, order: Ordering) -> $value {
                self.0.fetch_or(<$value>::default(), checked(order))
            }

            pub fn store(&self, value: $value, order: Ordering) {
                self.swap(value, order);
            }

            pub fn swap(&self, value: $value, order: Ordering) -> $value {
                self.0.swap(value, checked(order))
            }

            pub fn compare_exchange(
                &self,
                now: $value,
                then: $value,
                order: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.0.compare_exchange(now, then, checked(order), checked(failure))
            }
        }
    };
}

atomic!(AtomicBool, bool);
atomic!(AtomicU8, u8);
atomic!(AtomicUsize, usize);

impl AtomicUsize {
    pub fn fetch_add(&self, value: usize, order: Ordering) -> usize {
        self.0.fetch_add(value, checked(order))
    }
}

fn checked(order: Ordering) -> Ordering {
    assert_eq!(order, Ordering::SeqCst, "what the model says is true of no other order");
    order
}
