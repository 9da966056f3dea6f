//! Rows of templates.

use postgres::Row;

use super::tx::{Param, PgTx, Result, get, json, json_text, stamp};
use crate::TemplateId;
use crate::model::Template;
use crate::store::TemplateRows;

macro_rules! columns {
    () => {
        "id, name, description, system_prompt, default_metadata, created_at, is_builtin"
    };
}

fn template(row: &Row) -> Result<Template> {
    Ok(Template {
        id: TemplateId::new(get::<String>(row, 0)?),
        name: get(row, 1)?,
        description: get(row, 2)?,
        system_prompt: get(row, 3)?,
        default_metadata: json(row, 4)?,
        created_at: stamp(row, 5)?,
        is_builtin: get(row, 6)?,
    })
}

impl TemplateRows for PgTx<'_> {
    fn template(&self, id: &TemplateId) -> Result<Option<Template>> {
        let sql = concat!("SELECT ", columns!(), " FROM templates WHERE id = $1");
        self.one(sql, &[&id.as_str()], template)
    }

    fn templates(&self) -> Result<Vec<Template>> {
        let sql = concat!(
            "SELECT ",
            columns!(),
            " FROM templates ORDER BY is_builtin DESC, name, id"
        );
        self.all(sql, &[], template)
    }

    fn insert_template(&mut self, new: &Template) -> Result<bool> {
        let sql = "INSERT INTO templates (id, name, description, system_prompt, \
                   default_metadata, created_at, is_builtin) VALUES ($1, $2, $3, $4, $5, $6, $7) \
                   ON CONFLICT DO NOTHING";
        let params: [Param<'_>; 7] = [
            &new.id.as_str(),
            &new.name,
            &new.description,
            &new.system_prompt,
            &json_text(new.default_metadata.as_ref()),
            &new.created_at.micros(),
            &new.is_builtin,
        ];
        Ok(self.run(sql, &params)? > 0)
    }

    fn delete_template(&mut self, id: &TemplateId) -> Result<()> {
        self.run("DELETE FROM templates WHERE id = $1", &[&id.as_str()])?;
        Ok(())
    }
}
