"""Channel Gate: real-time pre-screening of loan applications by the channel that they come through."""
