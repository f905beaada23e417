//! Bulk rows on PostgreSQL: an array for each column, so that the text of a statement is the same however many rows there
//! are.

use std::fmt::Write as _;

use sea_orm::sea_query::ArrayType;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement, Value};

use crate::domain::calendar::{Instant, from_micros};
use crate::store::bulk::Reach;
use crate::store::bulk::rows::{Rows, is_null};
use crate::store::bulk::write::Write;
use crate::store::database::postgres::DATABASE_NOW;

/// Takes all rows, as the sub-select of one array for each column.
pub fn take(rows: &mut Rows, first: usize) -> (String, Vec<Value>) {
    let columns = rows.columns.iter().zip(first..);
    let arrays: Vec<String> = columns
        .map(|(column, number)| format!("${number}::{}[]", type_name(&column.value_type)))
        .collect();
    let names: Vec<&str> = rows.names().collect();
    let sql = format!(
        "(SELECT * FROM unnest({}) AS t({}))",
        arrays.join(", "),
        names.join(", ")
    );
    let width = rows.columns.len();
    let mut columns = vec![Vec::new(); width];
    for (place, value) in std::mem::take(&mut rows.values).into_iter().enumerate() {
        columns[place % width].push(value);
    }
    let columns = rows.columns.iter().zip(columns);
    let arrays = columns.map(|(column, values)| match column.is_nullable {
        true => nullable_array(values),
        false => Value::Array(column.value_type.clone(), Some(Box::new(values))),
    });
    (sql, arrays.collect())
}

/// Returns the name of a type.
fn type_name(value_type: &ArrayType) -> &'static str {
    match value_type {
        ArrayType::Bool => "boolean",
        ArrayType::SmallInt => "smallint",
        ArrayType::Int => "integer",
        ArrayType::BigInt => "bigint",
        ArrayType::String => "text",
        ArrayType::Uuid => "uuid",
        ArrayType::Bytes => "bytea",
        other => unreachable!("no column has the type {other:?}"),
    }
}

/// Returns an array that may have nulls in it, as a literal, since [`Value`] has no such array. Nulls at its end are
/// omitted: `unnest` adds them up to the length of its longest array, and the arrays of columns without nulls have that.
fn nullable_array(mut values: Vec<Value>) -> Value {
    let last = values.iter().rposition(|value| !is_null(value));
    values.truncate(last.map_or(0, |last| last + 1));
    let mut array = String::from("{");
    for value in &values {
        if array.len() > 1 {
            array.push(',');
        }
        push_element(&mut array, value);
    }
    array.push('}');
    array.into()
}

/// Appends a value to an array literal.
fn push_element(array: &mut String, value: &Value) {
    let written = match value {
        Value::Bool(Some(value)) => write!(array, "{value}"),
        Value::SmallInt(Some(value)) => write!(array, "{value}"),
        Value::Int(Some(value)) => write!(array, "{value}"),
        Value::BigInt(Some(value)) => write!(array, "{value}"),
        Value::Uuid(Some(value)) => write!(array, "{}", value.simple()),
        Value::String(Some(value)) => {
            array.push('"');
            for character in value.chars() {
                if matches!(character, '"' | '\\') {
                    array.push('\\');
                }
                array.push(character);
            }
            array.push('"');
            Ok(())
        }
        Value::Bytes(Some(value)) => {
            array.push_str("\"\\\\x");
            let byte = |array: &mut String, byte| write!(array, "{byte:02x}");
            let written = value.iter().try_for_each(|it| byte(array, it));
            array.push('"');
            written
        }
        null if is_null(null) => write!(array, "NULL"),
        _ => unreachable!("no column holds a value of this type"),
    };
    written.expect("a string takes everything");
}

/// Executes the writes by one statement, with a common table expression for each. Returns the number of counted rows and
/// the time on the database's clock. PostgreSQL does not promise an order of the parts. Only the order of locks depends on
/// it, and a batch that runs into a deadlock is tried again.
pub async fn write(
    connection: &impl ConnectionTrait,
    writes: Vec<Write>,
) -> Result<(u64, Instant), DbErr> {
    let backend = DbBackend::Postgres;
    let mut parts = Vec::new();
    let mut counts = Vec::new();
    let mut values = Vec::new();
    for (number, mut write) in writes.into_iter().enumerate() {
        let (rows, arrays) = take(&mut write.rows, values.len() + 1);
        let sql = write.sql(backend, Reach::Whole, &rows);
        parts.push(format!("w{number} AS ({sql} RETURNING 1)"));
        if write.is_counted() {
            counts.push(format!(" + (SELECT count(*) FROM w{number})"));
        }
        values.extend(arrays);
    }
    let sql = format!(
        "WITH {} SELECT {DATABASE_NOW} AS now, 0{} AS written",
        parts.join(", "),
        counts.concat()
    );
    let statement = Statement::from_sql_and_values(backend, sql, values);
    let row = connection.query_one_raw(statement).await?;
    let row = row.ok_or(DbErr::RecordNotFound(String::new()))?;
    let written: i64 = row.try_get("", "written")?;
    let now: i64 = row.try_get("", "now")?;
    Ok((written.unsigned_abs(), from_micros(now)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::bulk::rows::RowColumn;

    #[test]
    fn columns_are_arrays_on_postgresql() {
        let nullable = |name, value_type| RowColumn {
            is_nullable: true,
            ..RowColumn::new(name, value_type)
        };
        let mut rows = Rows::new(vec![
            RowColumn::new("a", ArrayType::SmallInt),
            nullable("b", ArrayType::String),
            nullable("c", ArrayType::Bytes),
            nullable("d", ArrayType::BigInt),
        ]);
        let none = || [Value::String(None), Value::Bytes(None)];
        let first = [
            r#"a,"\ö"#.into(),
            vec![7_u8, 255].into(),
            Value::BigInt(None),
        ];
        rows.push([Value::from(7_i16)].into_iter().chain(first));
        let second = none().into_iter().chain([Value::from(1_i64)]);
        rows.push([Value::from(8_i16)].into_iter().chain(second));
        let third = none().into_iter().chain([Value::BigInt(None)]);
        rows.push([Value::from(9_i16)].into_iter().chain(third));
        let (sql, arrays) = take(&mut rows, 3);
        assert_eq!(
            sql,
            "(SELECT * FROM unnest($3::smallint[], $4::text[], $5::bytea[], $6::bigint[]) AS t(a, b, c, d))"
        );
        let numbers = [7_i16, 8, 9].map(Value::from).to_vec();
        let typed = Value::Array(ArrayType::SmallInt, Some(Box::new(numbers)));
        let literals = [r#"{"a,\"\\ö"}"#, r#"{"\\x07ff"}"#, "{NULL,1}"].map(Value::from);
        assert_eq!(arrays[0], typed);
        assert_eq!(arrays[1..], literals);
    }
}
