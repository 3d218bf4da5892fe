//! Several questions to a server in one packet: a round trip costs both sides as much as a small
//! question does, and the looks before and after a freeze are two dozen.
//!
//! The server answers them one after the other, as if each had come by itself, and none behind one that
//! fails; an error is told in the words of the question that failed.

use std::marker::PhantomData;

use mysql_async::{
    Row,
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
#[derive(Default)]
pub(crate) struct Questions {
    asked: Vec<(&'static str, String)>,
}

impl Questions {
    /// Adds a question behind the others.
    pub(crate) fn add<T>(&mut self, question: Question<T>) -> Place<T> {
        self.asked.push((question.doing, question.sql));
        Place { at: self.asked.len() - 1, row: PhantomData }
    }
}

/// What a server has answered to several questions.
pub(crate) struct Answers {
    server: Server,
    answered: Vec<(&'static str, Vec<Row>)>,
}

impl Answers {
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
        let server = self.server().clone();
        let (words, statements): (Vec<&'static str>, Vec<String>) =
            questions.asked.into_iter().unzip();
        let mut rows = Vec::with_capacity(words.len());
        let asked = all(self, &statements.join("; "), &mut rows).await;
        let doing = words.get(rows.len()).or(words.last()).copied().unwrap_or_default();
        asked.map_err(|error| self.failed(doing, &error))?;
        if rows.len() != words.len() {
            return Err(unexpected(&server, doing, "not as many answers as questions"));
        }
        Ok(Answers { server, answered: words.into_iter().zip(rows).collect() })
    }
}

/// The rows of each statement of a packet, in order; with an error, those of the statements before it.
pub(crate) async fn all(
    session: &mut Session,
    sql: &str,
    rows: &mut Vec<Vec<Row>>,
) -> Result<(), mysql_async::Error> {
    let mut result = session.conn().query_iter(sql).await?;
    while !result.is_empty() {
        rows.push(result.collect().await?);
    }
    // The driver tells an error of a statement behind the first to who asks for more.
    result.next().await.map(drop)
}
