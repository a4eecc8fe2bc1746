//! What must hold at every step.

mod accounting;
mod crossing;
mod guarded;
mod lives;
mod streams;

pub use accounting::{Accounting, Bounds, Checksums};
pub use crossing::Crossing;
pub use guarded::{Proof, Splice};
pub use lives::Lives;
pub use streams::Streams;

use crate::trace::Passage;
use crate::world::World;

/// A property of a world. An error is a sentence that says what does not hold.
pub trait Invariant {
    /// Its name in a failure's report.
    fn name(&self) -> &'static str;

    /// A frame passed a node's port.
    ///
    /// # Errors
    /// When it should not have.
    fn observe(&mut self, _passage: &Passage) -> Result<(), String> {
        Ok(())
    }

    /// A step is done.
    ///
    /// # Errors
    /// When the world is not as it should be.
    fn check(&mut self, _world: &World) -> Result<(), String> {
        Ok(())
    }

    /// The run is over.
    ///
    /// # Errors
    /// When it should not have ended like this.
    fn at_end(&mut self, _world: &World) -> Result<(), String> {
        Ok(())
    }
}
