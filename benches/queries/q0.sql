-- Pass through: what the engine costs when a query does nothing.
SELECT auction, bidder, price, date_time, extra FROM bid
