-- Answers milliseconds by the server's clock.
return text(now)
