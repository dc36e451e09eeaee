-- Bounded side input join. Every bid with the value that a table of 10,000 rows, made before all bids, has for the auction's
-- id modulo 10,000: here "value 1005" for 1005.
SELECT auction, bidder, price, date_time, format('value {}', auction % 10000) FROM bid;
