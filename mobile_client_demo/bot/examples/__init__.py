"""Programs on the bot kit, to run and to begin with: `python -m aldis.mobile_client_demo.bot.examples.echo --help`."""
