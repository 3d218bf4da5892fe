//! Several questions to a server in one packet: a round trip costs both sides as much as a small
//! question does, and the looks before and after a freeze are two dozen.
//!
//! The server answers them one after the other, as if each had come by itself, and none behind one that
//! fails; an error is told in the words of the question that failed. So what must not be done before a
//! statement in front of it has been, a commit say, may stand behind it in one packet.

use std::marker::PhantomData;

use mysql_async::{
    QueryResult, Row, TextProtocol,
    prelude::{FromRow, Queryable as _},
};

use crate::{Error, Server, Session};

/// One statement that answers with rows, each of this shape.
pub(crate) struct Question<T> {
    /// For an error's text.
    pub doing: &'static str,
    /// The statement.
    pub sql: String,
    row: PhantomData<T>,
}

impl<T> Question<T> {
    /// A question; the names in it are quoted.
    pub(crate) fn new(doing: &'static str, sql: impl Into<String>) -> Self {
        Self { doing, sql: sql.into(), row: PhantomData }
    }
}

/// Where among the answers a question's is.
pub(crate) struct Place<T> {
    at: usize,
    row: PhantomData<T>,
}

/// Questions that are asked together.
#[derive(Clone, Default)]
pub(crate) struct Questions {
    asked: Vec<Asked>,
}

#[derive(Clone)]
struct Asked {
    doing: &'static str,
    sql: String,
    /// Whether it is answered with rows, be they none.
    has_rows: bool,
}

impl Questions {
    /// Adds a question behind the others.
    pub(crate) fn add<T>(&mut self, question: Question<T>) -> Place<T> {
        self.asked.push(Asked { doing: question.doing, sql: question.sql, has_rows: true });
        Place { at: self.asked.len() - 1, row: PhantomData }
    }

    /// Adds a statement that is answered without rows.
    pub(crate) fn say(&mut self, doing: &'static str, sql: impl Into<String>) {
        self.asked.push(Asked { doing, sql: sql.into(), has_rows: false });
    }

    /// Adds others behind these; answers how many are in front of them.
    pub(crate) fn append(&mut self, others: Self) -> usize {
        let before = self.asked.len();
        self.asked.extend(others.asked);
        before
    }

    /// As one packet.
    pub(crate) fn sql(&self) -> String {
        let statements: Vec<&str> = self.asked.iter().map(|asked| asked.sql.as_str()).collect();
        statements.join("; ")
    }

    /// What was answered: the rows of each statement, and how the packet ended.
    pub(crate) fn answers(
        self,
        session: &Session,
        mut rows: Vec<Vec<Row>>,
        ended: Result<(), mysql_async::Error>,
    ) -> Result<Answers, Error> {
        let (server, asked) = (session.server(), self.asked);
        let words: Vec<&'static str> = asked.iter().map(|asked| asked.doing).collect();
        let doing = words.get(rows.len()).or(words.last()).copied().unwrap_or_default();
        ended.map_err(|error| session.failed(doing, &error))?;
        // The driver tells nothing of a last one without rows but that it went well.
        if asked.get(rows.len()..).is_some_and(|rest| matches!(rest, [last] if !last.has_rows)) {
            rows.push(Vec::new());
        }
        if rows.len() != words.len() {
            return Err(unexpected(server, doing, "not as many answers as questions"));
        }
        Ok(Answers { server: server.clone(), answered: words.into_iter().zip(rows).collect() })
    }
}

/// What a server has answered to several questions.
pub(crate) struct Answers {
    server: Server,
    answered: Vec<(&'static str, Vec<Row>)>,
}

impl Answers {
    /// Those behind the first few, for who has asked those only.
    pub(crate) fn behind(mut self, first: usize) -> Self {
        self.answered.drain(..first.min(self.answered.len()));
        self
    }

    /// The rows of one question, which nobody has taken before.
    pub(crate) fn take<T: FromRow>(&mut self, place: Place<T>) -> Result<Vec<T>, Error> {
        let (doing, rows) = self.answered.get_mut(place.at).map(std::mem::take).unwrap_or_default();
        rows.into_iter().map(|row| read(&self.server, doing, row)).collect()
    }

    /// The first row of a question that has one.
    pub(crate) fn one<T: FromRow>(&mut self, place: Place<T>) -> Result<T, Error> {
        let doing = self.answered.get(place.at).map_or("", |(doing, _)| *doing);
        let first = self.take(place)?.into_iter().next();
        first.ok_or_else(|| unexpected(&self.server, doing, "no row"))
    }
}

/// A row in the shape that is expected.
pub(crate) fn read<T: FromRow>(server: &Server, doing: &'static str, row: Row) -> Result<T, Error> {
    mysql_async::from_row_opt(row).map_err(|_| unexpected(server, doing, "a row of another shape"))
}

fn unexpected(server: &Server, doing: &'static str, what: &str) -> Error {
    Error::Unexpected { server: server.name().to_string(), doing, what: what.to_owned() }
}

impl Session {
    /// Asks one question.
    pub(crate) async fn ask<T>(&mut self, question: Question<T>) -> Result<Vec<T>, Error>
    where
        T: FromRow + Send + 'static,
    {
        self.rows(question.doing, &question.sql).await
    }

    /// Asks several.
    pub(crate) async fn ask_all(&mut self, questions: Questions) -> Result<Answers, Error> {
        let mut rows = Vec::with_capacity(questions.asked.len());
        let ended = match questions.asked.is_empty() {
            true => Ok(()),
            false => all(self, &questions.sql(), &mut rows).await,
        };
        questions.answers(self, rows, ended)
    }
}

/// The rows of each statement of a packet, in order; with an error, those of the statements before it.
pub(crate) async fn all(
    session: &mut Session,
    sql: &str,
    rows: &mut Vec<Vec<Row>>,
) -> Result<(), mysql_async::Error> {
    let mut result = session.conn().query_iter(sql).await?;
    rest(&mut result, rows).await
}

/// The rows of each statement that is still to be answered.
pub(crate) async fn rest(
    result: &mut QueryResult<'_, 'static, TextProtocol>,
    rows: &mut Vec<Vec<Row>>,
) -> Result<(), mysql_async::Error> {
    while !result.is_empty() {
        rows.push(result.collect().await?);
    }
    // The driver tells an error of a statement behind the first to who asks for more.
    result.next().await.map(drop)
}
