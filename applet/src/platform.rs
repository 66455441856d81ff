//! What differs between systems beside the screen and the windows: where files go and who may read them, what an
//! administrator says, and how the program is asked to end. One file for each family of systems.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub use self::unix::*;
#[cfg(windows)]
pub use self::windows::*;
