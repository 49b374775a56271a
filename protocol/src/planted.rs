//! Mistakes that are planted on purpose, to see whether the simulator finds them (`edgefleet-sim planted`). They are there
//! only in a build with `--cfg edgefleet_planted`, which no release can be; all in one build, of which one is chosen when it
//! runs. In every other build [`Bug::is_planted`] is constant and false, and nothing of a mistake is compiled.

#[cfg(all(edgefleet_planted, not(debug_assertions)))]
compile_error!("planted mistakes are for builds with debug assertions, so that no release can have them");

macro_rules! bugs {
    ($($(#[doc = $about:literal])* $name:ident = $number:literal,)*) => {
        /// A mistake that somebody could have made.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Bug {
            $($(#[doc = $about])* $name = $number,)*
        }

        impl Bug {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// What it is, in a sentence.
            pub const fn about(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($about),*).trim_ascii(),)*
                }
            }
        }
    };
}

bugs! {
    /// Order: a desired state of a lower place is taken for news.
    OlderIsNews = 1,
    /// Order: another document under the same place is taken for news.
    SamePlaceIsNews = 2,
    /// Envelope: one signature less than the threshold is enough.
    OneSignatureLess = 3,
    /// Freshness: a head that answers the challenge of an earlier connection is believed.
    OldAnswerBelieved = 4,
    /// Envelope: a document that was signed for another cluster is believed.
    AnothersDocument = 5,
    /// Agent: whether a release has expired is judged by the system's clock.
    ExpiryBySystemClock = 6,
    /// Agent: a desired state is recorded only if it removes something.
    DesiredNotRecorded = 7,
    /// Agent: reports are told before they are recorded, and never are.
    ReportNotRecorded = 8,
    /// Agent: an object is recorded when it is made, and not when it is applied again.
    ObjectRecordedOnce = 9,
    /// Agent: that an object was deleted is not recorded.
    DeletionNotRecorded = 10,
    /// Agent: after a restart reports are numbered from the last acknowledged.
    NumbersUsedAgain = 11,
    /// Agent: an acknowledgement of another life of the journal counts for this one.
    AckOfAnotherLife = 12,
    /// Agent: an acknowledgement counts for all that was reported since, too.
    AckOfTooMuch = 13,
    /// Agent: what was reported is not said again.
    ReportSaidOnce = 14,
    /// Agent: the wait between two tries doubles without an end.
    WaitWithoutEnd = 15,
    /// Agent: what failed is tried again at once, for ever.
    RetryWithoutPause = 16,
    /// Agent: a failure stays noted though the object was applied since.
    FailureStays = 17,
    /// Agent: hello is said once, whether it is answered or not.
    HelloSaidOnce = 18,
    /// Agent: what was heard on the last connection counts on the next.
    ConnectionRemembered = 19,
    /// Agent: an object that was looked at still counts as changed.
    LooksForEver = 20,
    /// Agent: that an object is gone is not noticed.
    DeletionNotSeen = 21,
    /// Agent: what is on its way counts as healthy.
    ReadyTooEarly = 22,
    /// Agent: content counts as checked once it is all there.
    ContentUnchecked = 23,
    /// Agent: content that nothing needs any more is kept.
    ContentKept = 24,
    /// Agent: what is staged starts without a permit.
    StartWithoutPermit = 25,
    /// Agent: what was set right is counted at every look.
    HealedCountedAgain = 26,
    /// Agent: every connection has the same challenge.
    NonceUsedAgain = 27,
    /// Agent: what a desired state named is forgotten with a restart.
    NamedForgotten = 28,
    /// Agent: after a restart it does not know in which life of the hub it agreed with it.
    LifeForgotten = 29,
    /// Executor: every object is applied by force.
    AlwaysForced = 30,
    /// Executor: a deletion that was not answered counts as done.
    UnansweredIsDeleted = 31,
    /// Executor: the reader of one release goes on with the next.
    ReaderOfAnother = 32,
    /// Executor: what cannot be looked at counts as gone.
    UnavailableIsAbsent = 33,
    /// Hub: reports are acknowledged and not stored.
    AckWithoutStore = 34,
    /// Hub: a report that was overtaken by a newer one is taken.
    OldReportTaken = 35,
    /// Hub: a report of a former life of a journal is taken.
    FormerLifeTaken = 36,
    /// Hub: what was signed before the last loss does not count for the next place.
    PlaceUsedAgain = 37,
    /// Hub: a restored hub tells clusters before it knows what they hold.
    UnmetAreTold = 38,
    /// Hub: a desired state is sent while an operator has yet to accept a recovery.
    PausedHubTells = 39,
    /// Hub: a cluster is asked once for what it holds.
    HeldAskedOnce = 40,
    /// Hub: a cluster that missed the news is not told again.
    NewsSaidOnce = 41,
    /// Hub: a restored hub shows what its backup knew of clusters.
    BackupIsShown = 42,
    /// Hub: a report counts for what was told after it was made.
    ReportBeforeNews = 43,
    /// Hub: that its clock was set is not noticed.
    ClockSetUnnoticed = 44,
    /// Hub: clusters that run something are counted twice.
    CountedTwice = 45,
    /// Hub: desired states are sent and not stored.
    ToldWithoutStore = 46,
    /// Hub: a desired state names only what was changed.
    RestForgotten = 47,
    /// Blind: a release that is named no more before it started is started.
    TakenBackIsStarted = 101,
    /// Blind: a list of a kind counts what the list before it named.
    ListedBeforeCounts = 102,
    /// Blind: numbers of reports go on from the last row that is read, not from the highest.
    LastRowNumbers = 103,
    /// Blind: a watch that breaks off as if the API server were away is told to nobody.
    InterruptionUntold = 105,
    /// Blind: the hub's time is not believed where it is earlier than was believed before.
    TimeNeverGoesBack = 106,
    /// Blind: a head that answers another connection's challenge counts as long as it is fresh.
    AnyChallengeAnswered = 107,
    /// Blind: an application in an old store rules in the generation that the store has.
    OldRecordRules = 108,
    /// Blind: an application that a report newly speaks of, and says nothing of, is not counted again.
    NewlyToldUncounted = 109,
    /// Blind: whoever is gone when it is to be acknowledged is owed that for ever.
    AckOwedForEver = 110,
}

impl Bug {
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
