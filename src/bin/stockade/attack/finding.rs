//! What came of an attempt.

/// What came of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// There was nothing to attack.
    NotApplicable,
    /// It was refused.
    Held,
    /// It could not be told.
    Broken,
    /// It worked.
    Open,
}

impl Verdict {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Verdict::NotApplicable => "not applicable",
            Verdict::Held => "held",
            Verdict::Broken => "broken",
            Verdict::Open => "open",
        }
    }
}

/// A verdict and what it rests on.
#[derive(Debug, Clone)]
pub(crate) struct Finding {
    pub(crate) verdict: Verdict,
    pub(crate) why: String,
    /// The kernel answered as one that does not have what was asked for.
    pub(crate) absent: bool,
    /// It was ended from outside, whatever it had said by then.
    pub(crate) cut: bool,
}

impl Finding {
    fn new(verdict: Verdict, why: impl Into<String>) -> Self {
        Finding { verdict, why: why.into(), absent: false, cut: false }
    }

    pub(crate) fn held(why: impl Into<String>) -> Self {
        Self::new(Verdict::Held, why)
    }

    pub(crate) fn open(what: impl Into<String>) -> Self {
        Self::new(Verdict::Open, what)
    }

    pub(crate) fn broken(why: impl Into<String>) -> Self {
        Self::new(Verdict::Broken, why)
    }

    pub(crate) fn not_applicable(why: impl Into<String>) -> Self {
        Self::new(Verdict::NotApplicable, why)
    }

    /// As the program inside tells it.
    pub(crate) fn told(line: &str) -> Self {
        let (word, text) = line.trim_end().split_once(' ').unwrap_or((line, ""));
        match word {
            "held" => Self::held(text),
            "open" => Self::open(text),
            "not_applicable" => Self::not_applicable(text),
            "absent" => Finding { absent: true, ..Self::held(text) },
            _ => Self::broken(format!("the program said {line:?}")),
        }
    }

    /// Nothing is known of it but that it had to be ended.
    pub(crate) fn cut(why: impl Into<String>) -> Self {
        Finding { cut: true, ..Self::broken(why) }
    }

    /// With the way in which it ended, if that says something.
    #[must_use]
    pub(crate) fn ended(self, end: &Finding) -> Self {
        let why = if end.cut { format!("{}; {}", self.why, end.why) } else { self.why };
        Finding { why, ..self }
    }

    /// What happened outside outweighs what the program inside has seen.
    #[must_use]
    pub(crate) fn with(self, touched: &[String]) -> Self {
        if touched.is_empty() { self } else { Self::open(touched.join("; ")) }
    }
}
