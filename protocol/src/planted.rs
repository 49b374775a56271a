//! Mistakes that are planted on purpose, to see whether the simulator finds them (`edgefleet-sim planted`). They are there
//! only in a build with `--cfg edgefleet_planted`, which no release can be; all in one build, of which one is chosen when it
//! runs. In every other build [`Bug::is_planted`] is constant and false, and nothing of a mistake is compiled.

#[cfg(all(edgefleet_planted, not(debug_assertions)))]
compile_error!("planted mistakes are for builds with debug assertions, so that no release can have them");

/// A mistake that somebody could have made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Bug {
    /// A desired state of a lower place is taken for news.
    OlderIsNews = 1,
}

impl Bug {
    /// All of them.
    pub const ALL: &[Self] = &[Self::OlderIsNews];

    /// Its number.
    pub const fn number(self) -> u32 {
        self as u32
    }

    /// Whether the program is to make it.
    #[cfg(not(edgefleet_planted))]
    pub const fn is_planted(self) -> bool {
        false
    }

    /// Whether the program is to make it.
    #[cfg(edgefleet_planted)]
    pub fn is_planted(self) -> bool {
        chosen::IT.load(std::sync::atomic::Ordering::Relaxed) == self.number()
    }

    /// Has the program make this mistake from now on, or none.
    #[cfg(edgefleet_planted)]
    pub fn plant(bug: Option<Self>) {
        chosen::IT.store(bug.map_or(0, Self::number), std::sync::atomic::Ordering::Relaxed);
    }
}

#[cfg(edgefleet_planted)]
mod chosen {
    use std::sync::atomic::AtomicU32;

    /// The number of the mistake that is made.
    pub(super) static IT: AtomicU32 = AtomicU32::new(0);
}
