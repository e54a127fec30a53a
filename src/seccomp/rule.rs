//! What is done with a call, and when.

/// A jump of a filter reaches 255 instructions, and a condition has up to 6.
pub(super) const MOST_CONDITIONS: usize = 32;

/// What happens to a system call; `SECCOMP_RET_…` of
/// [seccomp(2)](https://man7.org/linux/man-pages/man2/seccomp.2.html).
///
/// # Examples
///
/// ```
/// use stockade::{Action, Rule, Seccomp};
///
/// let profile = Seccomp::default().rule(Rule::new("ptrace").then(Action::KillProcess));
/// # drop(profile);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// The call is made.
    Allow,
    /// The call is made, and the kernel writes it to its log (Linux 4.14).
    Log,
    /// The call is not made and answers this error number, 1 to 4095; 0 pretends success.
    Errno(u32),
    /// The thread gets SIGSYS, which it can handle.
    Trap,
    /// The thread ends.
    KillThread,
    /// The process ends (Linux 4.14). With [`init`](crate::Sandbox::init), which is told of the call and kills
    /// it, the outcome is [`SeccompDenied`](crate::Outcome::SeccompDenied); without, with a profile
    /// that has [`Notify`](Self::Notify) as well, and with one that refuses what the start needs, it ends
    /// with SIGSYS.
    KillProcess,
    /// The caller is asked, through [`Child::seccomp_listener`](crate::Child::seccomp_listener); `ENOSYS` once
    /// nobody listens. Whoever answers decides nothing about security: what the arguments point
    /// to can be changed meanwhile
    /// ([seccomp_unotify(2)](https://man7.org/linux/man-pages/man2/seccomp_unotify.2.html)). Needs init.
    Notify,
}

impl Action {
    pub(super) const fn code(self) -> u32 {
        match self {
            Action::Allow => libc::SECCOMP_RET_ALLOW,
            Action::Log => libc::SECCOMP_RET_LOG,
            Action::Errno(number) => libc::SECCOMP_RET_ERRNO | number & libc::SECCOMP_RET_DATA,
            Action::Trap => libc::SECCOMP_RET_TRAP,
            Action::KillThread => libc::SECCOMP_RET_KILL_THREAD,
            Action::KillProcess => libc::SECCOMP_RET_KILL_PROCESS,
            Action::Notify => libc::SECCOMP_RET_USER_NOTIF,
        }
    }

    /// Whether the call is made.
    pub(super) const fn is_allowed(code: u32) -> bool {
        code == libc::SECCOMP_RET_ALLOW || code == libc::SECCOMP_RET_LOG
    }
}

/// What is done with one system call, always or with certain arguments
/// ([seccomp(2)](https://man7.org/linux/man-pages/man2/seccomp.2.html)).
///
/// # Examples
///
/// ```
/// use stockade::{Action, Condition, Rule, Sandbox, Seccomp};
///
/// // No sockets but Unix ones.
/// let local = Rule::new("socket").when(Condition::equal(0, 1).low());
/// let profile = Seccomp::default()
///     .rule(local)
///     .rule(Rule::new("socket").then(Action::Errno(97)));
/// assert!(Sandbox::new().seccomp(profile).command("/bin/true").status()?.outcome.is_success());
/// # Ok::<(), stockade::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub(super) call: String,
    pub(super) conditions: Vec<Condition>,
    pub(super) action: Action,
}

impl Rule {
    /// Allows a call by its name; [`when`](Self::when) and [`then`](Self::then) change that.
    ///
    /// Names are those of [syscalls(2)](https://man7.org/linux/man-pages/man2/syscalls.2.html). One
    /// that only other architectures have does nothing here; one that none has is an error of
    /// [`spawn`](crate::Command::spawn), with the names that are nearly the same.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Rule, Sandbox, Seccomp};
    /// let typo = Sandbox::new().seccomp(Seccomp::default().rule(Rule::new("ptrance")));
    /// let error = typo.command("/bin/true").spawn().unwrap_err();
    /// assert!(error.to_string().contains("ptrace"), "{error}");
    /// ```
    #[must_use]
    pub fn new(call: impl Into<String>) -> Self {
        Rule { call: call.into(), conditions: Vec::new(), action: Action::Allow }
    }

    pub(super) fn with(call: &str, conditions: Vec<Condition>, action: Action) -> Self {
        Rule { call: call.to_owned(), conditions, action }
    }

    pub(super) fn problems(&self, problems: &mut Vec<String>) {
        for condition in self.conditions.iter().filter(|condition| condition.argument > 5) {
            let number = condition.argument;
            problems.push(format!("{:?} has no argument {number}: they are 0 to 5", self.call));
        }
        if self.conditions.len() > MOST_CONDITIONS {
            let count = self.conditions.len();
            problems.push(format!(
                "{count} conditions for {:?}, of at most {MOST_CONDITIONS}",
                self.call
            ));
        }
        if matches!(self.action, Action::Errno(number) if number > 4095) {
            problems.push(format!("the error of {:?} is not between 0 and 4095", self.call));
        }
    }

    /// Adds a condition, up to 32; all of them have to hold.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Condition, Rule};
    /// let rule = Rule::new("socket").when(Condition::equal(0, 2).low());
    /// # drop(rule);
    /// ```
    #[must_use]
    pub fn when(mut self, condition: Condition) -> Self {
        self.conditions.push(condition);
        self
    }

    /// What is done, instead of allowing it.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Action, Rule};
    /// let rule = Rule::new("uname").then(Action::Errno(38));
    /// # drop(rule);
    /// ```
    #[must_use]
    pub fn then(mut self, action: Action) -> Self {
        self.action = action;
        self
    }
}

/// A comparison of one argument of a system call, 0 to 5, as an unsigned number of 64 bits
/// ([seccomp(2)](https://man7.org/linux/man-pages/man2/seccomp.2.html)).
///
/// The kernel itself reads many arguments as 32 bits, a socket's family or an ioctl's request for
/// example: [`low`](Self::low) compares these as the kernel does, whatever is in the higher half.
///
/// # Examples
///
/// ```
/// use stockade::Condition;
/// let type_into_terminal = Condition::equal(1, 0x5412).low();
/// let no_new_namespace = Condition::masked(0, 0x7e02_0000, 0).low();
/// # drop((type_into_terminal, no_new_namespace));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    pub(super) argument: u8,
    pub(super) compare: Compare,
    pub(super) value: u64,
    /// All 64 bits.
    pub(super) whole: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compare {
    Equal,
    NotEqual,
    Less,
    AtMost,
    Greater,
    AtLeast,
    Masked(u64),
}

macro_rules! comparisons {
    ($($name:ident $compare:ident $doc:literal;)*) => {
        impl Condition {
            $(
                #[doc = $doc]
                ///
                /// # Examples
                ///
                /// ```
                /// use stockade::Condition;
                #[doc = concat!("let condition = Condition::", stringify!($name), "(0, 1);")]
                /// # drop(condition);
                /// ```
                #[must_use]
                pub fn $name(argument: u8, value: u64) -> Self {
                    Condition { argument, compare: Compare::$compare, value, whole: true }
                }
            )*
        }
    };
}

comparisons! {
    equal Equal "The argument is `value`.";
    not_equal NotEqual "The argument is not `value`.";
    less Less "The argument is less than `value`.";
    at_most AtMost "The argument is `value` or less.";
    greater Greater "The argument is greater than `value`.";
    at_least AtLeast "The argument is `value` or more.";
}

impl Condition {
    /// Those bits of the argument that are in `mask` are as in `value`.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Condition, Rule};
    /// // Not for writing.
    /// let reading = Rule::new("openat").when(Condition::masked(2, 0b11, 0));
    /// # drop(reading);
    /// ```
    #[must_use]
    pub fn masked(argument: u8, mask: u64, value: u64) -> Self {
        Condition { argument, compare: Compare::Masked(mask), value, whole: true }
    }

    /// Looks at the lower 32 bits only, as the kernel does with an `int`.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Condition;
    /// let unix = Condition::equal(0, 1).low();
    /// # drop(unix);
    /// ```
    #[must_use]
    pub fn low(mut self) -> Self {
        self.whole = false;
        self
    }
}
