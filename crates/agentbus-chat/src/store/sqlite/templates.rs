//! Rows of templates.

use rusqlite::{Row, params};

use super::tx::{Result, RowResult, SqliteTx, json, json_text, stamp};
use crate::TemplateId;
use crate::model::Template;
use crate::store::TemplateRows;

macro_rules! columns {
    () => {
        "id, name, description, system_prompt, default_metadata, created_at, is_builtin"
    };
}

fn template(row: &Row<'_>) -> RowResult<Template> {
    Ok(Template {
        id: TemplateId::new(row.get::<_, String>(0)?),
        name: row.get(1)?,
        description: row.get(2)?,
        system_prompt: row.get(3)?,
        default_metadata: json(row, 4)?,
        created_at: stamp(row, 5)?,
        is_builtin: row.get(6)?,
    })
}

impl TemplateRows for SqliteTx<'_> {
    fn template(&self, id: &TemplateId) -> Result<Option<Template>> {
        let sql = concat!(
            "SELECT ",
            columns!(),
            " FROM thread_templates WHERE id = ?1"
        );
        self.one(sql, [id.as_str()], template)
    }

    fn templates(&self) -> Result<Vec<Template>> {
        let sql = concat!(
            "SELECT ",
            columns!(),
            " FROM thread_templates ORDER BY is_builtin DESC, name, id"
        );
        self.all(sql, [], template)
    }

    fn insert_template(&mut self, new: &Template) -> Result<bool> {
        let sql = "INSERT OR IGNORE INTO thread_templates (id, name, description, system_prompt, \
                   default_metadata, created_at, is_builtin) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let params = params![
            new.id.as_str(),
            new.name,
            new.description,
            new.system_prompt,
            json_text(new.default_metadata.as_ref()),
            new.created_at.to_string(),
            new.is_builtin,
        ];
        Ok(self.run(sql, params)? > 0)
    }

    fn delete_template(&mut self, id: &TemplateId) -> Result<()> {
        self.run("DELETE FROM thread_templates WHERE id = ?1", [id.as_str()])?;
        Ok(())
    }
}
