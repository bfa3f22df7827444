"""`aldis chat`: a chat for terminals. `docs/clients.md` shows it.

Pure: `text` (what others wrote, made fit for a terminal), `state`, `events`, `update`, `talks`, `commands`, `look`,
`painting`. Around it: `home` (files and logins), `archive` (what was said, on disk), `engine` (the bot kit), `screen`
(prompt_toolkit), `pipes` (lines in and out, without a terminal).
"""
