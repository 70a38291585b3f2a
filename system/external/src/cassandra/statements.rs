//! What is prepared, once a session.
use chat_ports::tables::Table;
use scylla::client::session::Session;
use scylla::errors::PrepareError;
use scylla::statement::Statement;
use scylla::statement::prepared::PreparedStatement;

/// Messages the server sends in one answer: at the largest body, 96 KiB, an answer stays below 20 MiB.
const MESSAGES_A_PAGE: i32 = 200;
/// Rows the server sends in one answer where they have no body: about 400 KiB.
const PLACES_A_PAGE: i32 = 4_096;

const MESSAGE: &str = "cseq, head, body";

/// Statements of a table.
pub(super) struct OfTable {
    /// (keys) to (key, value)
    pub(super) get: PreparedStatement,
    /// (key, value), if there is none.
    pub(super) insert: PreparedStatement,
    /// (value, key, present value), if that is the present one.
    pub(super) update: PreparedStatement,
}

/// All statements of a session.
pub(super) struct Statements {
    /// As `rows::Line` binds it.
    pub(super) insert_message: PreparedStatement,
    /// As `rows::Line` binds it.
    pub(super) insert_segment: PreparedStatement,
    /// (conversation, segment, `cseq` exclusive, limit), newest first.
    pub(super) messages_below: PreparedStatement,
    /// (conversation, segment, `cseq` exclusive, limit), oldest first.
    pub(super) messages_above: PreparedStatement,
    /// (conversation, segment inclusive, limit), highest first.
    pub(super) segments_down: PreparedStatement,
    /// (conversation, segment inclusive, limit), lowest first.
    pub(super) segments_up: PreparedStatement,
    /// (conversation, segment) to (`cseq`, head)
    pub(super) places: PreparedStatement,
    devices_by_user: OfTable,
}

impl Statements {
    pub(super) async fn prepare(session: &Session, keyspace: &str) -> Result<Self, PrepareError> {
        let of = Preparing { session, keyspace };
        let down = "ORDER BY seg DESC LIMIT ?";
        Ok(Self {
            insert_message: of
                .message(&format!("INSERT INTO {keyspace}.messages (conv, seg, {MESSAGE}) VALUES (?, ?, ?, ?, ?)"))
                .await?,
            insert_segment: of
                .message(&format!("INSERT INTO {keyspace}.segments (conv, seg) VALUES (?, ?)"))
                .await?,
            messages_below: of
                .message(&format!("SELECT {MESSAGE} FROM {keyspace}.messages WHERE conv = ? AND seg = ? AND cseq < ? ORDER BY cseq DESC LIMIT ?"))
                .await?,
            messages_above: of
                .message(&format!("SELECT {MESSAGE} FROM {keyspace}.messages WHERE conv = ? AND seg = ? AND cseq > ? LIMIT ?"))
                .await?,
            segments_down: of
                .place(&format!("SELECT seg FROM {keyspace}.segments WHERE conv = ? AND seg <= ? {down}"))
                .await?,
            segments_up: of
                .place(&format!("SELECT seg FROM {keyspace}.segments WHERE conv = ? AND seg >= ? LIMIT ?"))
                .await?,
            places: of
                .place(&format!("SELECT cseq, head FROM {keyspace}.messages WHERE conv = ? AND seg = ?"))
                .await?,
            devices_by_user: of.table("devices_by_user").await?,
        })
    }

    pub(super) fn of(&self, table: Table) -> &OfTable {
        match table {
            Table::DevicesByUser => &self.devices_by_user,
        }
    }
}

struct Preparing<'a> {
    session: &'a Session,
    keyspace: &'a str,
}

impl Preparing<'_> {
    async fn message(&self, text: &str) -> Result<PreparedStatement, PrepareError> {
        self.idempotent(text, MESSAGES_A_PAGE).await
    }

    async fn place(&self, text: &str) -> Result<PreparedStatement, PrepareError> {
        self.idempotent(text, PLACES_A_PAGE).await
    }

    async fn idempotent(&self, text: &str, page: i32) -> Result<PreparedStatement, PrepareError> {
        let mut statement = Statement::new(text).with_page_size(page);
        statement.set_is_idempotent(true);
        self.session.prepare(statement).await
    }

    async fn table(&self, table: &str) -> Result<OfTable, PrepareError> {
        let name = format!("{}.{table}", self.keyspace);
        Ok(OfTable {
            get: self.place(&format!("SELECT key, value FROM {name} WHERE key IN ?")).await?,
            // A conditional write is not idempotent: the second of two finds the value of the first.
            insert: self
                .session
                .prepare(format!("INSERT INTO {name} (key, value) VALUES (?, ?) IF NOT EXISTS"))
                .await?,
            update: self
                .session
                .prepare(format!("UPDATE {name} SET value = ? WHERE key = ? IF value = ?"))
                .await?,
        })
    }
}
